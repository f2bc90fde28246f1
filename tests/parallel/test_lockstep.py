"""Replicas that drift apart are found within k steps, and the place is named."""

import re

import numpy as np
import pytest

import distdl
from distdl import nn, optim, parallel
from distdl.core import random
from distdl.core.errors import ArgumentError, PeerError
from distdl.parallel.lockstep import SLOTS, Lockstep
from tests.parallel.replicas import batch, collectives
from tests.parallel.thread_ranks import on_ranks

EVERY = 4


def flip(array, index):
    """Change one bit of one element: a high one, since the steps until the comparison round."""
    flat = array.reshape(-1)
    flat[index : index + 1].view(np.uint32)[...] ^= np.uint32(1 << 20)


def train(comm, harm, steps=12, reproducible=False, **options):
    """Train for some steps; after the seventh `harm(model, optimizer)` has its way. Return model and digests."""
    distdl.manual_seed(3)
    model = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 5))
    optimizer = parallel.DistributedOptimizer(
        optim.Adam(model, lr=0.01), comm, model=model, reproducible=reproducible, check_every=EVERY, **options
    )
    for step in range(steps):
        x, y = batch((12,), step, 16, "float32")
        optimizer.zero_grad()
        if reproducible:
            share = np.concatenate([np.arange(16)[s::8] for s in optimizer.synchronizer.mine])
            random.set_batch(random.Batch(0, share, 8))
            parts = optimizer.each_shard(x[share], y[share])
        else:
            parts = [(x[comm.rank :: comm.size], y[comm.rank :: comm.size])]
        for rows, labels in parts:
            nn.functional.cross_entropy(model(distdl.tensor(rows)), labels).backward()
        optimizer.step()
        if step == 6:
            harm(model, optimizer)
    optimizer.close()
    parameters = {name: parameter.data for name, parameter in model.named_parameters()}
    return model, parallel.replica_digests(parameters, comm)


def nothing(model, optimizer):
    """No harm."""


def found_by(comm, target, rank, **options):
    """Return what is raised on this rank when a bit of an array flips on another."""

    def harm(model, optimizer):
        if comm.rank == rank:
            flip(target(model, optimizer), 7)

    with pytest.raises(PeerError) as caught:
        train(comm, harm, **options)
    return str(caught.value)


TARGETS = {
    "parameter": (lambda m, o: m[3].weight.data, r"'3.weight' on rank RANK", r"\(1, 2\)", {}),
    "momentum": (lambda m, o: o.state[0]["mean"], r"'mean of 0.weight' on rank RANK", r"\(0, 7\)", {}),
    "buffer": (lambda m, o: m[1].running_var, r"'1.running_var' on rank RANK", r"\(7,\)", {"reproducible": True}),
    "parameter, by shards": (lambda m, o: m[0].bias.data, r"'0.bias' on rank RANK", r"\(7,\)", {"reproducible": True}),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("size", "rank"), [(2, 1), (2, 0), (3, 2), (5, 1)])
def test_a_flipped_bit_is_named(target, size, rank):
    """Step, array, rank, element and both values are named, the same on all ranks, at the next comparison."""
    array, name, index, options = TARGETS[target]
    messages = on_ranks(size, lambda comm: found_by(comm, array, rank, **options))
    assert len(set(messages)) == 1
    ranks = f"ranks {', '.join(map(str, range(1, size)))}" if rank == 0 and size > 2 else f"rank {max(rank, 1)}"
    assert messages[0].startswith("replicas differ before step 8: ")
    assert re.search(name.replace("rank RANK", ranks) + " is not that on rank 0: element " + index, messages[0])
    values = re.findall(r"(-?[\d.e-]+) on rank", messages[0].split("element")[1])
    assert len(values) == 2
    assert values[0] != values[1]


@pytest.mark.mpi
@pytest.mark.parametrize("target", TARGETS)
def test_a_flipped_bit_is_named_under_mpi(comm, target):
    """The same on MPI's ranks."""
    if comm.size == 1:
        train(comm, nothing)
        return
    array, name, index, options = TARGETS[target]
    message = found_by(comm, array, comm.size - 1, **options)
    assert re.search(name.replace("RANK", str(comm.size - 1)), message)
    assert re.search(index, message)


@pytest.mark.mpi
@pytest.mark.parametrize("reproducible", [False, True])
def test_equal_replicas_are_left_alone(comm, reproducible):
    """Without harm nothing is found, and a step makes as many collectives as it must, comparisons included.

    That is one for the only bucket; in reproducible mode one more for the buffers, and two in the place of one where
    the ranks are no power of two.
    """
    before = collectives(comm)
    train(comm, nothing, steps=3, reproducible=reproducible)
    short = collectives(comm) - before
    train(comm, nothing, steps=15, reproducible=reproducible)
    long = collectives(comm) - before - short
    is_power = comm.size & (comm.size - 1) == 0
    assert (long - short) / 12 == ((2 if is_power else 4) if reproducible else int(comm.size > 1))


def test_all_may_go_on_with_what_rank_0_has(capsys):
    """With on_drift="broadcast" the ranks are told, and are equal again."""

    def run(comm):
        def harm(model, optimizer):
            if comm.rank == 1:
                flip(model[0].weight.data, 3)

        return train(comm, harm, on_drift="broadcast")[1]

    for digests in on_ranks(3, run):
        assert len(set(digests)) == 1
    assert "'0.weight' on rank 1 is not that on rank 0" in capsys.readouterr().out


def test_any_arrays_may_be_compared():
    """What is compared is up to the caller."""

    def run(comm):
        lockstep = Lockstep(comm, lambda: [("a", np.zeros(3) + (comm.rank == 1))], 1)
        numbers = comm.allreduce(lockstep.numbers())
        with pytest.raises(PeerError, match=r"'a' on rank 1 is not that on rank 0: element \(0,\) is 0.0 .* 1.0"):
            lockstep.judge(numbers)
        return True

    assert all(on_ranks(2, run))


@pytest.mark.parametrize("size", [2, 3, 7, 4096])
def test_numbers_are_exact_in_float32(size):
    """The greatest numbers of 4,096 ranks add up without rounding, and one other number among them is seen."""
    numbers = np.full((size, SLOTS // 2), 63, np.float32)
    sums = np.concatenate([numbers, numbers**2], axis=1).sum(axis=0)
    assert sums.dtype == np.float32
    first, squares = np.split(sums.astype(np.float64), 2)
    assert (size * squares == first**2).all()
    numbers[size // 2, 3] = 62
    first, squares = np.split(np.concatenate([numbers, numbers**2], axis=1).sum(axis=0).astype(np.float64), 2)
    assert list(size * squares != first**2) == [i == 3 for i in range(SLOTS // 2)]


def test_options_are_checked():
    """A negative distance, and an unknown answer to a drift, are refused by name."""
    model = nn.Linear(2, 2)
    for options, name in (({"check_every": -1}, "check_every"), ({"on_drift": "ignore"}, "on_drift")):
        with pytest.raises(ArgumentError, match=name):
            parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), distdl.world(), **options)
