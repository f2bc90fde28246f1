"""How gradients are reduced: what is given goes before the environment, and that before measurements."""

import json

import pytest

from distdl.comm import SerialCommunicator
from distdl.core.errors import ArgumentError
from distdl.parallel import measure, plan

pytestmark = pytest.mark.mpi

LARGE = 100 << 20
FREE = measure.Costs(latency=1e-5, seconds_per_byte=2e-10, hidden=0.9)
BUSY = FREE._replace(hidden=0.1)


@pytest.fixture(autouse=True)
def stored(comm, monkeypatch, tmp_path):
    """The directory where costs are stored; measurements are made up."""
    monkeypatch.delenv("DISTDL_OVERLAP", raising=False)
    monkeypatch.delenv("DISTDL_BUCKET_BYTES", raising=False)
    monkeypatch.setattr(plan, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(plan, "measure", lambda comm: FREE)
    monkeypatch.setattr(plan, "still_hold", lambda comm, costs: True)
    monkeypatch.setattr(plan, "_is_on_one_node", lambda comm: False)
    return tmp_path


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize(("costs", "overlap", "size"), [(FREE, True, 1 << 20), (BUSY, False, plan.LARGE_BUCKET)])
def test_what_was_measured_decides(comm, monkeypatch, costs, overlap, size):
    """Overlap where reductions hide, in buckets whose latency does not count; else large buckets."""
    monkeypatch.setattr(plan, "measure", lambda comm: costs)
    assert plan.choose(comm, LARGE, "auto", "auto") == plan.Plan(overlap, size, "measured")
    assert plan.choose(comm, LARGE, 500, "auto") == plan.Plan(overlap, 500, "stored")


@pytest.mark.mpi(min_size=2)
def test_costs_are_measured_once(comm, monkeypatch, stored):
    """The second job with these ranks reads them; a damaged file, or one of other ranks, is replaced."""
    assert plan.choose(comm, LARGE, "auto", "auto").source == "measured"
    assert plan.choose(comm, LARGE, "auto", "auto").source == "stored"
    if comm.rank == 0:
        (path,) = stored.glob("reduction-*.json")
        good = json.loads(path.read_text())
        bad = ["", "[]", "{", json.dumps({**good, "key": []}), json.dumps({**good, "costs": [1, 2]})]
        bad += [json.dumps({**good, "costs": [1, 0, float("nan")]}), json.dumps({**good, "costs": [1, 0, 1]})]
        bad += [json.dumps({**good, "tuned": what}) for what in ([], {"a": [True, 1]}, {"5": [True]}, {"5": [True, 0]})]
    for i in range(11):
        if comm.rank == 0:
            path.write_text(bad[i])
        assert plan.choose(comm, LARGE, "auto", "auto").source == "measured"
        assert plan.choose(comm, LARGE, "auto", "auto").source == "stored"


@pytest.mark.mpi(min_size=2)
def test_costs_of_another_network_are_measured_again(comm, monkeypatch, stored):
    """Stored costs are taken only where a reduction takes about as long as they say, on all ranks alike."""
    here = measure.measure(comm)
    for factor, holds in ((0.1, False), (1.0, True), (10.0, False)):
        stated = here._replace(latency=here.latency * factor, seconds_per_byte=here.seconds_per_byte * factor)
        seconds = here.latency + measure._QUICK * here.seconds_per_byte
        monkeypatch.setattr(measure, "_slowest", lambda *args, seconds=seconds: seconds)
        assert measure.still_hold(comm, stated) == holds
    assert plan.choose(comm, LARGE, "auto", "auto").source == "measured"
    monkeypatch.setattr(plan, "still_hold", lambda comm, costs: False)
    # A disturbed look: what is measured then is as before.
    assert plan.choose(comm, LARGE, "auto", "auto").source == "stored"
    slow = FREE._replace(seconds_per_byte=5 * FREE.seconds_per_byte)
    monkeypatch.setattr(plan, "measure", lambda comm: slow)
    assert plan.choose(comm, LARGE, "auto", "auto").source == "measured"
    monkeypatch.setattr(plan, "_is_on_one_node", lambda comm: True)
    assert plan.choose(comm, LARGE, "auto", "auto").source == "stored"


def test_what_disturbs_a_measurement_once_does_not_decide(comm, monkeypatch):
    """If nothing vanishes beside computation at first, but later, it counts as hidden."""
    alone = computing = 1e-2
    tries = [(alone, computing, together) for together in (2.5e-2, 1.2e-2, 2.1e-2)]
    seconds = iter([1e-5, 1e-2, 1e-3, *sum(tries, ())])
    monkeypatch.setattr(measure, "_slowest", lambda *args: next(seconds))
    assert measure.measure(comm).hidden == pytest.approx(0.8)


@pytest.mark.mpi(min_size=2)
def test_what_was_tuned_goes_before_measurements(comm, monkeypatch, stored):
    """It holds for these ranks and so many bytes of gradients, after arguments, and while the network is the same."""
    plan.keep(comm, LARGE, False, 12345)
    plan.keep(comm, LARGE + 4, True, 999)
    assert plan.choose(comm, LARGE, "auto", "auto") == plan.Plan(False, 12345, "tuned")
    assert plan.choose(comm, LARGE + 4, "auto", "auto") == plan.Plan(True, 999, "tuned")
    assert plan.choose(comm, LARGE + 8, "auto", "auto") == plan.Plan(True, 1 << 20, "stored")
    assert plan.choose(comm, LARGE, 77, "auto") == plan.Plan(True, 77, "stored")
    assert plan.choose(comm, LARGE, "auto", True) == plan.Plan(True, 1 << 20, "stored")
    monkeypatch.setattr(plan, "still_hold", lambda comm, costs: False)
    assert plan.choose(comm, LARGE, "auto", "auto").source == "tuned"
    monkeypatch.setattr(plan, "measure", lambda comm: FREE._replace(latency=1.0))
    assert plan.choose(comm, LARGE, "auto", "auto").source == "measured"


@pytest.mark.mpi(min_size=2)
def test_without_a_place_to_store_them_costs_are_measured_again(comm, monkeypatch, stored):
    """Neither no directory nor one that is gone stops training."""
    for directory in (None, stored / "gone"):
        monkeypatch.setattr(plan, "cache_directory", lambda directory=directory: directory)
        for _ in range(2):
            assert plan.choose(comm, LARGE, "auto", "auto").source == "measured"


@pytest.mark.mpi(min_size=2)
def test_arguments_go_before_the_environment(comm, monkeypatch):
    """What the environment says is taken for what is not given."""
    monkeypatch.setenv("DISTDL_OVERLAP", "1")
    monkeypatch.setenv("DISTDL_BUCKET_BYTES", "1234")
    assert plan.choose(comm, LARGE, "auto", "auto") == plan.Plan(True, 1234, "given")
    assert plan.choose(comm, LARGE, 99, "auto") == plan.Plan(True, 99, "given")
    assert plan.choose(comm, LARGE, "auto", False) == plan.Plan(False, 1234, "given")
    monkeypatch.delenv("DISTDL_BUCKET_BYTES")
    assert plan.choose(comm, LARGE, "auto", False) == plan.Plan(False, plan.LARGE_BUCKET, "given")
    assert plan.choose(comm, LARGE, "auto", True).bucket_bytes == 1 << 20


@pytest.mark.mpi(min_size=2)
def test_rank_0_decides(comm):
    """Ranks that are told different things do as rank 0."""
    mine = (10, True) if comm.rank == 0 else (20, False)
    assert plan.choose(comm, LARGE, *mine) == plan.Plan(True, 10, "given")


@pytest.mark.mpi(min_size=2)
def test_a_small_model_is_not_worth_a_measurement(comm, stored):
    """Its gradients are reduced in one piece, after backward()."""
    assert plan.choose(comm, 1000, "auto", "auto") == plan.Plan(False, plan.LARGE_BUCKET, "small model")
    assert list(stored.iterdir()) == []


@pytest.mark.mpi(min_size=2)
def test_without_threads_in_mpi_there_is_no_overlap(comm, monkeypatch):
    """Asked for, it is refused; else it is left."""
    monkeypatch.setattr(comm, "has_threads", lambda: False)
    assert not plan.choose(comm, LARGE, "auto", "auto").overlap
    with pytest.raises(ArgumentError, match="MPI_THREAD_MULTIPLE"):
        plan.choose(comm, LARGE, "auto", True)


def test_alone_there_is_nothing_to_choose():
    """One rank reduces nothing."""
    assert not plan.choose(SerialCommunicator(), LARGE, "auto", True).overlap


def test_bad_choices_are_named(comm):
    """Neither a word nor a number says whether to overlap."""
    for wrong in ("yes", 1):
        with pytest.raises(TypeError, match="`overlap`"):
            plan.choose(comm, LARGE, "auto", wrong)


@pytest.mark.parametrize(("latency", "size"), [(0.0, plan.SMALL_BUCKET), (1e-5, 1 << 20), (1.0, plan.LARGE_BUCKET)])
def test_buckets_grow_with_latency(latency, size):
    """Buckets stay within bounds."""
    assert plan.overlapped_bucket(FREE._replace(latency=latency)) == size


def test_costs_are_plausible_and_the_same_everywhere(comm):
    """A real measurement gives times above 0 and a share."""
    costs = measure.measure(comm)
    assert costs.latency > 0
    assert costs.seconds_per_byte > 0
    assert 0 <= costs.hidden <= 1
    assert len({tuple(each) for each in comm.allgather_object(list(costs))}) == 1
