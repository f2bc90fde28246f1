"""The model of a step: by hand, against a plain simulation, and what must hold whatever the numbers."""

import itertools

import numpy as np
import pytest

from distdl.cluster.planning.compression import Compression
from distdl.cluster.planning.cost import Choice, Cluster, Wire, cut, expected_maximum, predict, reduction
from distdl.cluster.planning.network import Link
from distdl.cluster.planning.workload import Workload
from distdl.core.errors import ArgumentError
from tests.cluster.profiles import MEBIBYTE, made

SLOW = Link(latency=1e-4, seconds_per_byte=1e-8)
MEMORY = Link(latency=1e-6, seconds_per_byte=1e-10)
ONE_BUCKET = 25 << 20


def on(nodes, per_node=1, link=SLOW, **options):
    return Cluster(nodes, per_node, MEMORY, link, **options)


def test_a_step_by_hand():
    """Two nodes, 2 MiB: two messages each way of 1 MiB, half of it added."""
    found = predict(Workload([made()]), on(2), Choice(100, ONE_BUCKET))
    taken = 2 * MEBIBYTE * 1e-8 + 2 * 1e-4 + MEBIBYTE * 1e-10
    assert found.compute == pytest.approx(0.031)
    assert found.waiting == 0
    assert found.exposed == pytest.approx(taken)
    assert found.step == pytest.approx(0.031 + taken)


def test_one_rank_reduces_nothing():
    """Its step is what it computes."""
    assert predict(Workload([made(spread=0.5)]), on(1), Choice(100, ONE_BUCKET)) == (0.031, 0.031, 0.0, 0.0)


def test_an_overlapped_step_by_hand():
    """The last layer's bucket starts in the middle of backward(), the first layer's when that one is done."""
    workload = Workload([made(polling=0.0, cores=2)])
    bucket = MEBIBYTE * 1e-8 + 2 * 1e-4 + MEBIBYTE / 2 * 1e-10
    found = predict(workload, on(2), Choice(100, MEBIBYTE, overlap=True))
    # 10 + 10 ms until the first starts; the second waits for the end of backward at 30 ms, or the first.
    assert found.step == pytest.approx(max(0.020 + bucket, 0.030) + bucket + 0.001)


def test_reductions_take_the_core_of_the_computation():
    """Where every core has a rank, backward() is longer by what they take of it; with a core to spare it is not."""
    busy, idle = (Workload([made(polling=0.5, cores=cores)]) for cores in (1, 2))
    quick = Link(1e-5, 1e-9, handling=2e-10)
    times = [
        predict(workload, on(2, link=quick), Choice(100, MEBIBYTE, overlap=True)).step for workload in (busy, idle)
    ]
    first = reduction(MEBIBYTE, busy, on(2, link=quick), Choice(100, MEBIBYTE, overlap=True))
    seconds = first.busy + 2e-5 + MEBIBYTE * 1e-9
    worked = first.busy + MEBIBYTE * 2e-10
    assert times[0] - times[1] == pytest.approx(worked + 0.5 * (seconds - worked))


def test_trees_of_nodes_by_hand():
    """On a node memory is read and written once; between nodes each rank sends its piece, and all share the link."""
    workload, nbytes = Workload([made()]), 8 * MEBIBYTE
    within = 2 * MEMORY.latency + nbytes * MEMORY.seconds_per_byte
    found = reduction(nbytes, workload, on(2, 4), Choice(100, ONE_BUCKET))
    assert found.on_wire == nbytes
    assert found.between.sent == nbytes / 4
    assert found.busy == pytest.approx(within + nbytes / 8 * 1e-10)
    flat = reduction(nbytes, workload, on(2, 4), Choice(100, ONE_BUCKET, per_node=False))
    assert flat.on_wire == nbytes
    assert flat.busy > found.busy


def test_compressed_trees_by_hand():
    """A node sums its gradients, one rank sends what is left of them, and hands the result out."""
    workload, nbytes = Workload([made()]), 8 * MEBIBYTE
    hook = Compression("half", 0.5, 3e-10)
    found = reduction(nbytes, workload, on(2, 4), Choice(100, ONE_BUCKET, compression=hook))
    within = 2 * MEMORY.latency + nbytes * MEMORY.seconds_per_byte
    assert found.on_wire == nbytes / 2 + 512
    assert found.busy == pytest.approx(2 * within + nbytes * 3e-10 + (nbytes / 4 + 512) * 1e-10)
    alone = reduction(nbytes, workload, Cluster(1, 4, MEMORY, None), Choice(100, ONE_BUCKET, compression=hook))
    assert (alone.on_wire, alone.busy) == (0, pytest.approx(within))


def test_slow_ranks_are_waited_for():
    """The slowest of n: expected maxima of normal draws, simulated, within two hundredths of a deviation."""
    rng = np.random.default_rng(0)
    for count in (2, 3, 8, 64, 512):
        drawn = rng.standard_normal((20_000 if count < 100 else 2_000, count)).max(axis=1).mean()
        assert expected_maximum(count) == pytest.approx(drawn, abs=0.03)
    assert expected_maximum(1) == 0
    calm, uneven = (predict(Workload([made(spread=s)]), on(4), Choice(100, ONE_BUCKET)) for s in (0.0, 0.1))
    assert uneven.waiting == pytest.approx(0.031 * 0.1 * expected_maximum(4))
    assert uneven.step - calm.step == pytest.approx(uneven.waiting)


def test_a_burst_is_let_pass_once_and_grows_again_in_pauses():
    """A token bucket holds at most its size, and fills at the rate of the link."""
    wire = Wire(Link(0.0, 1e-6, burst=1000.0))
    assert wire.send(0.0, 1500, 1e-6) == pytest.approx(500e-6)
    assert wire.send(500e-6, 100, 1e-6) == pytest.approx(100e-6)
    assert wire.send(800e-6, 300, 1e-6) == pytest.approx(100e-6)
    assert wire.send(1.0, 5000, 1e-6) == pytest.approx(4000e-6)


def test_buckets_are_those_of_the_synchronizer():
    """Last parameters first; a bucket is ready when the last of its gradients is."""
    parameters = ((100, 1.0), (200, 0.8), (300, 0.5), (400, 0.1))
    assert cut(parameters, 1000) == [(1000, 1.0)]
    assert cut(parameters, 700) == [(700, 0.5), (300, 1.0)]
    assert cut(parameters, 1) == [(400, 0.1), (300, 0.5), (200, 0.8), (100, 1.0)]


def ticked(workload, cluster, choice, tick=2e-6):
    """Return the seconds of a step by walking through four of them tick by tick."""
    times = workload.times(choice.batch, cluster.on_machine)
    buckets = cut(tuple(workload.parameters), choice.bucket_bytes)
    link = cluster.between
    works = [reduction(nbytes, workload, cluster, choice) for nbytes, _ in buckets]
    now, ahead, ends = 0.0, link.burst, [0.0]
    for _ in range(4):
        done = updated = 0.0
        queue = list(range(len(buckets)))
        fixed = left = drag = None
        while updated < times.update:
            now += tick
            is_computed = done >= times.forward + times.backward
            if queue and fixed is None:
                ready = times.forward + times.backward * (buckets[queue[0]][1] if choice.overlap else 1.0)
                if done >= ready:
                    work = works[queue[0]]
                    fixed = work.busy + work.between.messages * (link.beside() if not is_computed else link).latency
                    drag = link.drag if choice.overlap and not is_computed else 1.0
                    left = max(work.on_wire - ahead, 0.0)
                    ahead = max(ahead - work.on_wire, 0.0)
            if fixed is None:
                ahead = min(link.burst, ahead + tick / link.seconds_per_byte)
            elif left > 0:
                left -= tick / link.seconds_per_byte / drag
            else:
                fixed -= tick
                ahead = min(link.burst, ahead + tick / link.seconds_per_byte)
            if fixed is not None and fixed <= 0 and left <= 0:
                queue.pop(0)
                fixed = None
            if not is_computed:
                done += tick
            elif not queue:
                updated += tick
        ends.append(now)
    return ends[-1] - ends[-2]


@pytest.mark.parametrize("seed", range(6))
def test_steps_are_those_of_a_plain_simulation(seed):
    """Whatever links, gradients and buckets are, within a hundredth."""
    rng = np.random.default_rng(seed)
    parameters = [(int(n), r) for n, r in zip(rng.integers(1, 1 << 20, 6), sorted(rng.random(6))[::-1], strict=True)]
    profile = made(
        forward=rng.uniform(1e-3, 5e-3), backward=rng.uniform(2e-3, 9e-3), parameters=parameters, polling=0.0, cores=64
    )
    link = Link(rng.uniform(1e-5, 1e-4), rng.uniform(2e-10, 3e-9), rng.choice([0.0, 3e5]), 5e-5, 1.2)
    workload, cluster = Workload([profile]), on(int(rng.integers(2, 9)), 2, link)
    for overlap, size in itertools.product((False, True), (1 << 18, 1 << 20)):
        choice = Choice(100, size, overlap)
        assert predict(workload, cluster, choice).step == pytest.approx(ticked(workload, cluster, choice), rel=0.01)


def test_what_must_hold_whatever_the_numbers():
    """A better network, fewer bytes or fewer doublings never make a step longer; computing is part of it."""
    workload = Workload([made(spread=0.05, cores=8)])
    for nodes, per_node, size, overlap in itertools.product((2, 8, 64), (1, 4), (1 << 20, ONE_BUCKET), (False, True)):
        choice = Choice(100, size, overlap)
        here = predict(workload, on(nodes, per_node), choice)
        assert here.step >= here.compute + here.waiting
        assert here.step == pytest.approx(here.compute + here.waiting + here.exposed)
        assert predict(workload, on(nodes, per_node, SLOW.at(1e10)), choice).step <= here.step
        assert predict(workload, on(nodes, per_node, SLOW.at(latency=1e-3)), choice).step >= here.step
        assert predict(workload, on(nodes * 2, per_node), choice).step >= here.step


def test_computation_follows_the_batch_and_the_crowd():
    """In proportion from one profile, in a straight line through two; threads beyond the cores share them."""
    one = Workload([made()])
    assert one.times(200, 1) == pytest.approx((0.020, 0.040, 0.001))
    assert one.times(100, 3).total == pytest.approx(0.093)
    two = Workload([made(), made(batch=300.0, forward=0.020, backward=0.040)])
    assert two.times(200, 1) == pytest.approx((0.015, 0.030, 0.001))
    assert two.batches == [100.0, 300.0]
    crowded = Workload([made(cores=4), made(cores=4, sharing=4, forward=0.015)])
    assert crowded.times(100, 1).forward == 0.010
    assert crowded.times(100, 4).forward == 0.015
    assert crowded.times(100, 8).forward == pytest.approx(0.030)
    assert Workload([made(cores=1)], cores=3).times(100, 3).total == pytest.approx(0.031)
    assert Workload([made(batch=0.0)]).times(0, 1).forward == 0.010


def test_profiles_that_do_not_fit_each_other_are_refused():
    """Of other models, or of other kinds of node."""
    with pytest.raises(ArgumentError, match=r"`profiles` .* must not be empty"):
        Workload([])
    with pytest.raises(ArgumentError, match="different gradients"):
        Workload([made(), made(parameters=[(4, 1.0)])])
    with pytest.raises(ArgumentError, match="with 1 of 1 cores, and with 2 of 4"):
        Workload([made(), made(cores=4, threads=2)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cluster(0, 1, None, SLOW), "`nodes` .*must be >= 1"),
        (lambda: Cluster(2, 1, MEMORY, None), "`between` .*must be a link: there are 2 to join"),
        (lambda: Cluster(1, 3, None, SLOW), "`within` .*must be a link: there are 3 to join"),
        (lambda: Cluster(1, 3, MEMORY, None, sharing=2), "`sharing` .*must be >= 3"),
        (lambda: Choice(-1, 5), "`batch` .*must be >= 0"),
        (lambda: Choice(1, 0), "`bucket_bytes` .*must be >= 1"),
        (lambda: expected_maximum(0), "`count` .*must be >= 1"),
    ],
)
def test_bad_numbers_are_named(make, message):
    """The message has the argument, the value and the rule."""
    with pytest.raises(ArgumentError, match=message):
        make()
