"""A fit that is taken up again, on the same or another number of ranks, ends with the same bits."""

import contextlib
import json

import numpy as np
import pytest

import distdl
from distdl import data, nn, optim, parallel, train
from distdl.comm import SerialCommunicator
from distdl.core.errors import ArgumentError, LaunchError, MissingDataError, PeerError
from distdl.data import transforms
from distdl.parallel import compression
from distdl.train import resume as module
from distdl.train.checkpoint import list_checkpoints, read_checkpoint
from tests.parallel.thread_ranks import on_ranks, one_at_a_time

TIMES = ("seconds", "samples_per_second", "slowest_rank", "slowest_excess")


class Interrupted(Exception):
    pass


class Interrupt(train.Callback):
    """Ends the fit after a step, on all ranks."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer, loss, rows):
        if trainer.step == self.step:
            raise Interrupted


def images(rows=50):
    random = np.random.default_rng(0)
    return data.ArrayDataset(random.normal(size=(rows, 6, 6, 1)).astype(np.float32), random.integers(0, 3, rows))


def make_trainer(comm, reproducible=True, stop=None, rule="adam", compression=None):
    with one_at_a_time:
        distdl.manual_seed(4)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(64, 3)
        )
    optimizer = optim.Adam(model, lr=0.01) if rule == "adam" else optim.SGD(model, lr=0.05, momentum=0.9)
    schedule = train.Schedule(optim.StepLR(optimizer, step_size=3, gamma=0.7), every="step")
    callbacks = [schedule, train.EarlyStopping(5), Interrupt(stop)]
    options = {"shards": 8, "progress": False, "compression": compression}
    return train.Trainer(model, optimizer, nn.CrossEntropyLoss(), comm, callbacks, reproducible, **options)


def fit(comm, directory, stop=None, reproducible=True, rule="adam", samples=None, compression=None, **options):
    trainer = make_trainer(comm, reproducible, stop, rule, compression)
    augment = transforms.RandomHorizontalFlip()
    try:
        trainer.fit(
            samples or images(),
            3,
            16,
            validation=images(20),
            transform=augment,
            seed=2,
            checkpoints=directory,
            **options,
        )
    except Interrupted:
        pass
    finally:
        trainer.close()
    records = [{key: value for key, value in record.items() if key not in TIMES} for record in trainer.history]
    return parallel.digest(trainer.model), records


@pytest.mark.parametrize("rule", ["adam", "sgd"])
@pytest.mark.parametrize("stops", [[2], [4], [5, 9], [1, 6, 7, 11]])
def test_interrupted_fits_end_with_the_same_bits(tmp_path, stops, rule):
    """Within epochs, at their ends, on 1 to 8 ranks (threads), again and again; records too."""
    expected = fit(SerialCommunicator(), tmp_path / "whole", rule=rule)
    sizes = [1, 3, 2, 8, 5]
    for size, stop in zip(sizes, [*stops, None], strict=False):
        found = on_ranks(
            size,
            lambda comm, stop=stop: fit(comm, tmp_path / "parts", stop, rule=rule, checkpoint_every=1, resume="auto"),
        )
    assert found == [expected] * size


@pytest.mark.mpi
@pytest.mark.parametrize("stop", [3, 4, 6])
def test_ranks_may_change(comm, tmp_path, stop):
    """From one rank to all of MPI's, and back."""
    shared = comm.broadcast_object(str(tmp_path))
    alone = SerialCommunicator()
    expected = fit(alone, tmp_path / "whole")
    if comm.rank == 0:
        fit(alone, f"{shared}/parts", stop, checkpoint_every=2)
    comm.barrier()
    fit(comm, f"{shared}/parts", stop + 3, checkpoint_every=2, resume="auto")
    assert fit(comm, f"{shared}/parts", checkpoint_every=2, resume="auto") == expected


@pytest.mark.mpi
def test_samples_may_lie_in_shards(comm, tmp_path):
    """Interrupted within an epoch and taken up, on one rank or MPI's, with copies on the node: the same bits."""
    shared = comm.broadcast_object(str(tmp_path))
    if comm.rank == 0:
        with data.ShardWriter(f"{shared}/shards", ("x", "y"), samples_per_shard=7) as writer:
            writer.add(*images().arrays)
    comm.barrier()
    alone = SerialCommunicator()
    expected = fit(alone, tmp_path / "whole", samples=data.ShardedArrays(f"{shared}/shards"))
    assert expected != fit(alone, tmp_path / "other")
    samples = data.ShardedArrays(f"{shared}/shards", cache_dir=f"{shared}/copies")
    fit(comm, f"{shared}/parts", 6, samples=samples, checkpoint_every=1)
    found = fit(comm, f"{shared}/parts", samples=samples, checkpoint_every=1, resume="auto")
    assert found == expected
    assert sum(comm.allgather(samples._cache.copied)) == 8


@pytest.mark.mpi
def test_fast_mode_sees_every_sample_once(comm, tmp_path):
    """Taken up in the middle of an epoch, with equal replicas."""
    directory = comm.broadcast_object(str(tmp_path))

    def run(stop, resume):
        seen = []
        trainer = make_trainer(comm, reproducible=False, stop=stop)
        compute = trainer._outputs

        def outputs(x):
            seen.extend(x[:, 0, 0, 0].tolist())
            return compute(x)

        trainer._outputs = outputs
        options = {"checkpoints": directory, "checkpoint_every": 1, "resume": resume}
        with contextlib.suppress(Interrupted):
            trainer.fit(images(), 1, 16, seed=2, **options)
        digests = parallel.replica_digests(trainer.model, comm)
        trainer.close()
        return seen, digests

    seen, _ = run(2, None)
    # The checkpoint of the second step was not taken: the fit goes on after the first.
    done = seen[: len(range(comm.rank, 16, comm.size))]
    seen, digests = run(None, "auto")
    samples = [value for rank in comm.allgather_object([done, seen]) for part in rank for value in part]
    assert sorted(samples) == sorted(images().arrays[0][:, 0, 0, 0].tolist())
    assert len(set(digests)) == 1


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_taken(tmp_path, capfd):
    """The end is the same."""
    alone = SerialCommunicator()
    expected = fit(alone, tmp_path / "whole")
    fit(alone, tmp_path / "parts", 5, checkpoint_every=1)
    newest = list_checkpoints(tmp_path / "parts")[0]
    (newest / "model.safetensors").write_bytes(b"x")
    assert fit(alone, tmp_path / "parts", resume="auto") == expected
    error = capfd.readouterr().err
    assert "damaged checkpoint, the one before is taken" in error
    assert "model.safetensors: has 1 bytes" in error
    assert "going on after step 3, in epoch 1 of 3" in error


def test_a_finished_fit_is_not_repeated(tmp_path, capfd):
    """Which is told."""
    alone = SerialCommunicator()
    expected = fit(alone, tmp_path)
    assert fit(alone, tmp_path, resume="auto") == expected
    assert "going on after step 12, which was the last" in capfd.readouterr().err


def test_what_does_not_fit_is_named(tmp_path):
    """Another batch size, no directory, a checkpoint that is not there."""
    alone = SerialCommunicator()
    fit(alone, tmp_path, 4, checkpoint_every=2)
    trainer = make_trainer(alone)
    with pytest.raises(ArgumentError, match=r"another plan: steps was 4 and is 5, batch_size was 16 and is 12"):
        trainer.fit(images(), 3, 12, seed=2, checkpoints=tmp_path, resume="auto")
    with pytest.raises(ArgumentError, match="`checkpoints`"):
        trainer.fit(images(), 3, 16, resume="auto")
    with pytest.raises(MissingDataError, match="no such checkpoint"):
        trainer.fit(images(), 3, 16, checkpoints=tmp_path, resume=tmp_path / "checkpoint-0000000099")
    trainer.close()


def test_two_jobs_in_one_directory_are_refused(tmp_path):
    """The kernel keeps the lock, for as long as the first lives."""
    alone = SerialCommunicator()
    trainer = make_trainer(alone)
    first = module.Checkpoints(trainer, module.Asked(tmp_path))
    with pytest.raises(LaunchError, match="another job writes its checkpoints there"):
        trainer.fit(images(), 1, 16, checkpoints=tmp_path)
    first.close()
    trainer.fit(images(), 1, 16, checkpoints=tmp_path)
    trainer.close()


@pytest.mark.mpi
@pytest.mark.parametrize("on_error", ["stop", "warn"])
def test_a_full_disk(comm, tmp_path, monkeypatch, capfd, on_error):
    """Ends the fit on all ranks, or is told and the training goes on."""
    directory = comm.broadcast_object(str(tmp_path))

    def write(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_checkpoint", write)
    trainer = make_trainer(comm)
    options = {"checkpoints": directory, "checkpoint_every": 2, "on_checkpoint_error": on_error}
    if on_error == "stop":
        with pytest.raises(PeerError, match=r"checkpoint of step 2 not written: OSError.*No space left"):
            trainer.fit(images(), 2, 16, **options)
    else:
        assert len(trainer.fit(images(), 2, 16, **options)) == 2
        assert ("No space left" in capfd.readouterr().err) == (comm.rank == 0)
    trainer.close()


def test_the_log_is_continued(tmp_path):
    """Records after the checkpoint are replaced, those before stay."""
    alone = SerialCommunicator()
    for stop, resume in ((6, None), (None, "auto")):
        trainer = make_trainer(alone, stop=stop)
        trainer.callbacks.insert(0, train.JsonLog(tmp_path / "run"))
        with contextlib.suppress(Interrupted):
            trainer.fit(images(), 3, 16, checkpoints=tmp_path / "checkpoints", resume=resume)
        trainer.close()
    first, *records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert "distdl" in first
    assert [record["epoch"] for record in records] == [1, 2, 3]


def node_each(rank):
    return rank


@pytest.mark.parametrize("hook", [compression.BF16, lambda: compression.PowerSGD(1), compression.TopK])
def test_fits_with_compression_go_on_with_the_same_bits(tmp_path, hook):
    """What hooks keep is in checkpoints: as many nodes go on as the fit that took the same ones and never stopped."""

    def run(comm, name, stop):
        options = {"reproducible": False, "compression": hook(), "checkpoint_every": 2, "resume": "auto"}
        return fit(comm, tmp_path / name, stop, **options)[0]

    expected = on_ranks(3, lambda comm: run(comm, "whole", None), node_each)
    for stop in (3, 6, None):
        found = on_ranks(3, lambda comm, stop=stop: run(comm, "parts", stop), node_each)
    assert found == expected
    assert len(set(found)) == 1
    newest = read_checkpoint(list_checkpoints(tmp_path / "parts")[0])
    assert newest.state["configuration"]["compression"] == hook().name


def test_what_another_hook_has_kept_is_dropped_aloud(tmp_path, capsys):
    """A fit may go on with another hook, or on one node; it says that gradients which were not sent yet are lost."""

    def run(comm, hook, stop):
        return fit(comm, tmp_path, stop, reproducible=False, compression=hook, checkpoint_every=1, resume="auto")

    on_ranks(2, lambda comm: run(comm, "topk", 3), node_each)
    on_ranks(2, lambda comm: run(comm, "bf16", 5), node_each)
    said = "distdl: the checkpoint was taken with compression 'topk', and now it is 'bf16': the parts of gradients"
    assert capsys.readouterr().err.count(said) == 1
    on_ranks(2, lambda comm: run(comm, compression.PowerSGD(1), 7), node_each)
    assert "dropped" not in capsys.readouterr().err
    on_ranks(2, lambda comm: run(comm, "powersgd", None))
    said = "with compression 'powersgd', and now nothing is compressed (on one node nothing is): the parts of gradients"
    assert capsys.readouterr().err.count(said) == 1
