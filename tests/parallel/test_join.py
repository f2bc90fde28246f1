"""Ranks that run out of batches accompany the others, and all replicas take every step."""

import contextlib

import numpy as np
import pytest

import distdl
from distdl import nn, optim, parallel
from distdl.core.errors import ArgumentError, DistdlError
from tests.parallel.replicas import batch, dense, made, relative_difference
from tests.parallel.thread_ranks import on_ranks, one_at_a_time

pytestmark = pytest.mark.usefixtures("mode")


def batches_of(rank, size):
    """Return how many batches a rank has: none on the last of several, most on the first."""
    return 3 * (size - 1 - rank) + (size == 1)


def rows_of(rank, step):
    return batch((12,), 100 * rank + step, 2 + (rank + step) % 3, "float64")


def loss_on(model, x, y):
    return nn.functional.cross_entropy(model(distdl.tensor(x)), y)


def joined(comm, micro=1, schedule=False):
    """Train with join(), `micro` batches a step; a rank may end within a step."""
    with one_at_a_time:
        model = made(dense, "float64", seed=3)
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.05, momentum=0.9), comm, check_every=2)
    scheduler = optim.StepLR(optimizer.optimizer, step_size=2, gamma=0.5)
    with optimizer.join(after_step=scheduler.step if schedule else None):
        for i in range(batches_of(comm.rank, comm.size)):
            if i % micro == 0:
                optimizer.zero_grad()
            is_last = i % micro == micro - 1
            with contextlib.nullcontext() if is_last else optimizer.no_sync():
                loss_on(model, *rows_of(comm.rank, i)).backward()
            if is_last:
                optimizer.step()
                if schedule:
                    scheduler.step()
    optimizer.close()
    return model, parallel.replica_digests(model, comm), optimizer.param_groups[0]["lr"]


def alone(size, schedule=False):
    """Train on one rank with the rows of all ranks that have some."""
    model = made(dense, "float64", seed=3)
    optimizer = optim.SGD(model, lr=0.05, momentum=0.9)
    scheduler = optim.StepLR(optimizer, step_size=2, gamma=0.5)
    for i in range(max(batches_of(rank, size) for rank in range(size))):
        parts = [rows_of(rank, i) for rank in range(size) if i < batches_of(rank, size)]
        optimizer.zero_grad()
        loss_on(model, *(np.concatenate(arrays) for arrays in zip(*parts, strict=True))).backward()
        optimizer.step()
        if schedule:
            scheduler.step()
    return model


@pytest.mark.mpi
@pytest.mark.parametrize("schedule", [False, True])
def test_unequal_batches_train_as_one_rank_with_all_rows(comm, schedule):
    """Each step is the exact mean over the rows that are left; schedules follow on all ranks."""
    model, digests, _ = joined(comm, schedule=schedule)
    assert len(set(digests)) == 1
    assert relative_difference(model, alone(comm.size, schedule)) < 1e-12


@pytest.mark.mpi
def test_what_was_accumulated_counts_at_the_end(comm):
    """A rank that ends between micro-batches brings what it has into the next step; replicas stay equal."""
    model, digests, _ = joined(comm, micro=2)
    assert len(set(digests)) == 1
    if comm.size == 1:
        # One batch is left over: it is a step of its own.
        assert relative_difference(model, alone(1)) < 1e-12


@pytest.mark.mpi
def test_gradients_are_clipped_on_all_ranks(comm):
    """Replicas stay equal where the loop clips, if ranks without batches clip too."""
    model = made(dense, "float64", seed=3)
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.05), comm)
    reference = made(dense, "float64", seed=3)
    alone = optim.SGD(reference, lr=0.05)

    def clip(model):
        optim.clip_grad_norm_(model.parameters(), 0.1)

    with optimizer.join(before_step=lambda: clip(model)):
        for i in range(batches_of(comm.rank, comm.size)):
            optimizer.zero_grad()
            loss_on(model, *rows_of(comm.rank, i)).backward()
            clip(model)
            optimizer.step()
    for i in range(max(batches_of(rank, comm.size) for rank in range(comm.size))):
        parts = [rows_of(rank, i) for rank in range(comm.size) if i < batches_of(rank, comm.size)]
        alone.zero_grad()
        loss_on(reference, *(np.concatenate(arrays) for arrays in zip(*parts, strict=True))).backward()
        clip(reference)
        alone.step()
    assert relative_difference(model, reference) < 1e-12
    optimizer.close()


@pytest.mark.mpi(min_size=2)
def test_two_reductions_a_step_are_refused(comm):
    """The others could not know that no step follows the first."""
    model = made(dense, "float64", seed=3)
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.05), comm)
    loss = loss_on(model, *rows_of(comm.rank, 0)) + loss_on(model, *rows_of(comm.rank, 0))
    optimizer.synchronizer.is_joined = True
    loss.backward(retain_graph=True, weight=1.0)
    with pytest.raises(DistdlError, match="a step has one reduction"):
        loss.backward(weight=1.0)
    optimizer.close()


@pytest.mark.mpi
def test_all_may_have_equally_many(comm):
    """With equal batches nothing changes but one reduction at the end."""
    digests = set()
    for context in (contextlib.nullcontext, parallel.DistributedOptimizer.join):
        model = made(dense, "float64", seed=3)
        optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.05), comm)
        with context(optimizer):
            for i in range(3):
                optimizer.zero_grad()
                loss_on(model, *rows_of(comm.rank, i)).backward()
                optimizer.step()
        optimizer.close()
        digests.add(parallel.digest(model))
    assert len(digests) == 1


def test_any_number_of_ranks_may_join():
    """Threads as ranks: 2 to 7 ranks with 0, 3, 6 ... batches."""
    for size in (2, 3, 5, 7):
        for model, digests, _ in on_ranks(size, lambda comm: joined(comm, schedule=True)):
            assert len(set(digests)) == 1
            assert relative_difference(model, alone(size, schedule=True)) < 1e-12


def test_what_does_not_go_together_is_refused(comm):
    """Reproducible mode has equal steps anyway."""
    model = nn.Linear(2, 2)
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm, model=model, reproducible=True)
    with pytest.raises(ArgumentError, match="reproducible"), optimizer.join():
        pass
    optimizer.close()


@pytest.mark.mpi
def test_exact_accumulation_is_refused(comm):
    """It would need to know of each other's micro-batches."""
    if comm.size == 1:
        return
    model = made(dense, "float64", seed=3)
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.05), comm)
    with pytest.raises(DistdlError, match="exact"), optimizer.join(), optimizer.no_sync(exact=True):
        loss_on(model, *rows_of(comm.rank, 0)).backward()
    optimizer.close()
