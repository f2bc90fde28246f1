"""Several backwards before a step, within no_sync() and outside, beside what one rank alone computes."""

import numpy as np
import pytest

import distdl
from distdl import optim, parallel
from tests.parallel.replicas import (
    assert_gradients,
    batch,
    cross_entropy_on,
    dense,
    gradients_alone,
    made,
    synchronized,
)

pytestmark = [pytest.mark.mpi, pytest.mark.usefixtures("mode")]


def test_a_second_backward_adds(comm):
    """Two synchronized backwards before a step give the sum of their global gradients."""
    model, _ = synchronized(comm)
    batches = [batch((12,), step, 9 + step, "float64") for step in range(3)]
    for x, y in batches:
        cross_entropy_on(x[comm.rank :: comm.size], y[comm.rank :: comm.size])(model).backward()
    assert_gradients(model, gradients_alone(dense, "float64", *[cross_entropy_on(x, y) for x, y in batches]))


@pytest.mark.parametrize("exact", [False, True])
def test_accumulation_without_synchronizing(comm, exact):
    """Micro-batches within no_sync() and one outside give the sum of the global gradients, in one reduction."""
    model, synchronizer = synchronized(comm)
    # Equal shares of every micro-batch; with exact=True any shares do.
    rows = [5, 7, 4] if exact else [2 * comm.size, 3 * comm.size, comm.size]
    batches = [batch((12,), step, n, "float64") for step, n in enumerate(rows)]
    shares = [(x[comm.rank :: comm.size], y[comm.rank :: comm.size]) for x, y in batches]
    before = synchronizer.comm.collectives
    with synchronizer.no_sync(exact=exact):
        for x, y in shares[:-1]:
            cross_entropy_on(x, y)(model).backward()
    within = synchronizer.comm.collectives - before
    cross_entropy_on(*shares[-1])(model).backward()
    assert_gradients(model, gradients_alone(dense, "float64", *[cross_entropy_on(x, y) for x, y in batches]))
    if comm.size > 1:
        assert within == (2 if exact else 0)
        assert synchronizer.reductions == len(synchronizer.buckets)


def test_discarded_accumulation_leaves_no_trace(comm):
    """zero_grad() after no_sync() forgets the gradients and their weights."""
    x, y = batch((12,), 0, 11, "float64")
    model, synchronizer = synchronized(comm)
    with synchronizer.no_sync():
        (model(distdl.tensor(x)) ** 2).mean().backward(weight=1 + 100 * comm.rank)
    model.zero_grad()
    cross_entropy_on(x[comm.rank :: comm.size], y[comm.rank :: comm.size])(model).backward()
    assert_gradients(model, gradients_alone(dense, "float64", cross_entropy_on(x, y)))


@pytest.mark.parametrize("present", [(3, 1), (0, 2), (1, 1)])
def test_ranks_may_skip_micro_batches_of_an_exact_accumulation(comm, present):
    """Rank 0 has the first number of micro-batches, the others the second; the last is outside of the block or not."""
    model = made(dense, "float64")
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm)
    counts = [present[min(rank, 1)] for rank in range(comm.size)]
    rounds = max(counts)
    losses = []
    for i in range(rounds):
        x, y = batch((12,), i, 9, "float64")
        holders = [rank for rank in range(comm.size) if i < counts[rank]]
        if holders:
            rows = [j for j in range(9) if j % comm.size in holders]
            losses.append(cross_entropy_on(x[rows], y[rows]))
    optimizer.zero_grad()
    mine = [batch((12,), i, 9, "float64") for i in range(counts[comm.rank])]
    outside = mine[-1:] if comm.rank else []
    with optimizer.no_sync(exact=True):
        for x, y in mine[: len(mine) - len(outside)]:
            cross_entropy_on(x[comm.rank :: comm.size], y[comm.rank :: comm.size])(model).backward()
    for x, y in outside:
        cross_entropy_on(x[comm.rank :: comm.size], y[comm.rank :: comm.size])(model).backward()
    optim.clip_grad_norm_(model, 1e9)
    assert_gradients(model, gradients_alone(dense, "float64", *losses))
    optimizer.step()
    assert len(set(parallel.replica_digests(model, comm))) == 1


def test_gradients_stay_when_there_was_no_backward(comm):
    """After a step, clipping and another step find the gradients that the last step has used."""
    model = made(dense, "float64")
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm)
    x, y = batch((12,), 0, 11, "float64")
    cross_entropy_on(x[comm.rank :: comm.size], y[comm.rank :: comm.size])(model).backward()
    expected = {name: parameter.grad.copy() for name, parameter in model.named_parameters()}
    optimizer.step()
    assert optim.clip_grad_norm_(model, 1e9) == pytest.approx(
        np.sqrt(sum((gradient**2).sum() for gradient in expected.values()))
    )
    optimizer.step()
    assert_gradients(model, expected)
    assert len(set(parallel.replica_digests(model, comm))) == 1


def test_a_rank_without_part_keeps_no_old_gradients(comm):
    """Gradients of the step before do not count on a rank that neither cleared them nor has a part in this step."""
    model, synchronizer = synchronized(comm)
    optimizer = optim.SGD(model, lr=0.0)
    x, y = batch((12,), 0, 11, "float64")
    for step in range(2):
        if step == 0 or comm.rank == 0:
            optimizer.zero_grad()
            cross_entropy_on(x, y)(model).backward()
        optimizer.step()
    assert_gradients(model, gradients_alone(dense, "float64", cross_entropy_on(x, y)))
    assert synchronizer.reductions == (2 * len(synchronizer.buckets) if comm.size > 1 else 0)
