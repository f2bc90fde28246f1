"""Profiles: what is recorded of a script's steps, and the file that holds it."""

import json
import time

import numpy as np
import pytest

import distdl
from distdl import nn, optim, parallel
from distdl.core import settings
from distdl.core.errors import ArgumentError, DistdlError, FileFormatError, MissingDataError
from distdl.parallel import profiler, reduction_times
from distdl.parallel.profile import Profile, Reduction, load
from distdl.parallel.synchronizer import GradientSynchronizer
from tests.parallel.thread_ranks import on_ranks, one_at_a_time

EXAMPLE = Profile(
    script="train.py", ranks=4, nodes=2, sharing=2, cores=8, threads=2, batch=32.0, steps=20, forward=0.01,
    backward=0.02, update=0.003, measured=0.04, spread=0.05, parameters=[(400, 1.0), (40, 0.25)], combine=1e-10,
    polling=0.1, within=[Reduction(4096, 1e-5, 2e-5, 1e-5)], between=[Reduction(4096, 1e-4, 2e-4, 1e-5)],
)  # fmt: skip


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Fewer steps, and fewer and smaller reductions."""
    monkeypatch.setattr(profiler, "_LEAST_STEPS", 5)
    monkeypatch.setattr(profiler, "MOST_STEPS", 5)
    monkeypatch.setattr(reduction_times, "_SIZES", (1 << 12, 1 << 19, 1 << 20))
    monkeypatch.setattr(reduction_times, "_REPEATS", 2)
    monkeypatch.setattr(reduction_times, "_PAUSE", 0.0)
    monkeypatch.setattr(reduction_times, "_LATE", 0.01)


def recorded(comm, path, monkeypatch, steps=profiler.WARM_UP + 5, rows=6, **options):
    """Train a network of three layers with DISTDL_PROFILE set, and return its weights and the optimizer."""
    if path is not None:
        monkeypatch.setenv("DISTDL_PROFILE", str(path))
    with one_at_a_time:
        distdl.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm, model=model, **options)
    x, y = np.ones((rows, 8), np.float32), np.arange(rows) % 4
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
        optimizer.step()
    return [parameter.data.copy() for parameter in model.parameters()], optimizer


@pytest.mark.mpi
def test_a_job_records_its_profile(comm, tmp_path, monkeypatch):
    """Times, gradients and when they are final, rows, and reductions between all ranks; then it trains on."""
    path = tmp_path / "profile.json"
    before, optimizer = recorded(comm, None, monkeypatch)
    optimizer.close()
    reduce = GradientSynchronizer.end_backward

    def reduce_late(synchronizer):
        time.sleep(0.002)
        reduce(synchronizer)

    monkeypatch.setattr(GradientSynchronizer, "end_backward", reduce_late)
    after, optimizer = recorded(comm, comm.broadcast_object(str(path)), monkeypatch)
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert all(parameter._owner is optimizer.synchronizer for parameter in optimizer.parameters())
    if comm.rank == 0:
        found = load(path)
        assert (found.ranks, found.nodes, found.batch, found.steps) == (comm.size, 1, 6.0, 5)
        assert [nbytes for nbytes, _ in found.parameters] == [512, 64, 1024, 64, 256, 16]
        ready = [share for _, share in found.parameters]
        assert ready[0] > ready[2] > ready[4] > 0
        assert found.measured - found.compute >= 0.002
        assert [r.nbytes for r in found.within] == ([1 << 12, 1 << 19, 1 << 20] if comm.size > 1 else [])
        assert all(r.seconds > 0 for r in found.within)
        assert found.between == []
    comm.barrier()
    optimizer.close()


def test_accumulated_passes_count_as_one_step(tmp_path, monkeypatch):
    """Rows are those of all passes of a step."""
    path = tmp_path / "profile.json"
    monkeypatch.setenv("DISTDL_PROFILE", str(path))

    def work(comm):
        with one_at_a_time:
            model = nn.Linear(4, 2)
        optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm)
        x, y = np.ones((3, 4), np.float32), np.zeros(3, int)
        for _ in range(profiler.WARM_UP + 5):
            optimizer.zero_grad()
            with optimizer.no_sync():
                nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
            nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
            optimizer.step()

    on_ranks(2, work)
    assert load(path).batch == 6.0


def test_a_job_may_end_with_its_profile(capsys, monkeypatch):
    """For `distdl plan` a line of standard output holds it, and the script ends well."""
    with pytest.raises(SystemExit) as ended:
        on_ranks(2, lambda comm: recorded(comm, "-", monkeypatch, steps=1000))
    assert ended.value.code == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert Profile.parse(json.loads(line.removeprefix(profiler.MARK))).ranks == 2


def places(monkeypatch, names):
    """Let ranks see these networks, one each."""
    left = list(names)
    monkeypatch.setattr(profiler, "network", left.pop)


def test_reductions_are_measured_on_nodes_and_between_them(tmp_path, monkeypatch):
    """Where hosts are namespaces of one machine, its cores are shared by the ranks of all."""
    places(monkeypatch, "abab")
    on_ranks(4, lambda comm: recorded(comm, tmp_path / "profile.json", monkeypatch))
    found = load(tmp_path / "profile.json")
    assert (found.ranks, found.nodes, found.sharing) == (4, 2, 4)
    sizes = [1 << 12, 1 << 19, 1 << 20]
    assert [r.nbytes for r in found.within] == [r.nbytes for r in found.between] == sizes


def test_uneven_nodes_are_told(tmp_path, monkeypatch):
    """A profile stands for nodes that are alike."""
    places(monkeypatch, "aab")
    with pytest.raises(DistdlError, match="equally many ranks on each node: 3 on 2"):
        on_ranks(3, lambda comm: recorded(comm, tmp_path / "profile.json", monkeypatch))


def test_what_cannot_be_profiled_is_told(tmp_path, monkeypatch):
    """Overlap, reproducible mode, and a directory that is not there."""
    path = tmp_path / "profile.json"
    with pytest.raises(ArgumentError, match="`DISTDL_PROFILE` and overlap do not go together"):
        on_ranks(2, lambda comm: recorded(comm, path, monkeypatch, overlap=True))
    with pytest.raises(ArgumentError, match="`DISTDL_PROFILE` is not for reproducible mode"):
        on_ranks(2, lambda comm: recorded(comm, path, monkeypatch, reproducible=True))
    with pytest.raises(ArgumentError, match=r"`DISTDL_PROFILE` .* must be a file in a directory that exists on rank 0"):
        on_ranks(2, lambda comm: recorded(comm, tmp_path / "gone" / "profile.json", monkeypatch))


def test_a_disk_that_is_full_ends_all_ranks(tmp_path, monkeypatch):
    """What rank 0 meets is told on all."""

    def write(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(profiler.files, "write_durably", write)
    with pytest.raises(DistdlError, match=r"rank 0 cannot write the profile: OSError.*No space left"):
        on_ranks(2, lambda comm: recorded(comm, tmp_path / "profile.json", monkeypatch))


def test_profiles_reduce_afterwards(monkeypatch):
    """While a profile is recorded the default of DISTDL_OVERLAP is 0."""
    monkeypatch.delenv("DISTDL_OVERLAP", raising=False)
    assert settings.overlap() is None
    monkeypatch.setenv("DISTDL_PROFILE", "profile.json")
    assert settings.overlap() is False
    monkeypatch.setenv("DISTDL_OVERLAP", "auto")
    assert settings.overlap() is None


def test_a_file_holds_all_of_a_profile(tmp_path):
    """What is read is what was written."""
    path = tmp_path / "profile.json"
    path.write_text(EXAMPLE.to_json())
    assert load(path) == EXAMPLE
    assert EXAMPLE.gradient_bytes == 440
    assert EXAMPLE.compute == pytest.approx(0.033)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"format": 0}, r"`format` \(=0\) must be 1"),
        ({"spread": None}, r"`spread` .*must be a real number"),
        ({"ranks": 2.5}, r"`ranks` .*must be an integer"),
        ({"ranks": 0}, r"`ranks` \(=0\) must be >= 1"),
        ({"nodes": 3}, r"`nodes` \(=3\) must divide the 4 ranks"),
        ({"forward": -1.0}, r"`forward` .*must be >= 0"),
        ({"backward": 0.0}, r"`backward` .*must be > 0"),
        ({"parameters": []}, r"`parameters` .*must not be empty"),
        ({"parameters": 3}, r"`parameters` .*must be a list"),
        ({"parameters": [[1]]}, r"`parameters` .*must be pairs"),
        ({"parameters": [[4, 1.5]]}, r"`parameters` .*must be <= 1"),
        ({"within": [{"nbytes": 4}]}, r"`within` .*must hold nbytes, seconds, beside and processor"),
        ({"between": [{"nbytes": 4, "seconds": -1, "beside": 0, "processor": 0}]}, r"`seconds` .*must be >= 0"),
    ],
)
def test_damaged_profiles_are_named(tmp_path, changes, rule):
    """The message has the file, the field, the value and the rule."""
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({**json.loads(EXAMPLE.to_json()), **changes}))
    with pytest.raises(FileFormatError, match=f"profile.json: is no profile: {rule}"):
        load(path)


def test_what_is_no_profile_is_told(tmp_path):
    """Neither a file that is not there, nor one of something else."""
    with pytest.raises(MissingDataError, match="no such file"):
        load(tmp_path / "gone.json")
    path = tmp_path / "other.json"
    path.write_text('{"format": 1}')
    with pytest.raises(FileFormatError, match="has no script, ranks, nodes"):
        load(path)
