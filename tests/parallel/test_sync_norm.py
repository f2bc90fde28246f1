"""Synchronized batch norm on ranks with any numbers of rows is batch norm of all rows on one."""

import contextlib
import copy

import numpy as np
import pytest

import distdl
from distdl import data, nn, optim, parallel, train
from distdl.comm import SerialCommunicator
from distdl.core.errors import ArgumentError, ArgumentTypeError
from distdl.nn.sync_norm import SyncBatchNorm
from tests.parallel.replicas import (
    assert_gradients,
    batch,
    cross_entropy_on,
    gradients_alone,
    made,
    relative_difference,
)
from tests.parallel.thread_ranks import on_ranks, one_at_a_time

pytestmark = pytest.mark.usefixtures("mode")


def normed(dtype):
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6)]
    return nn.Sequential(*layers, nn.Tanh(), nn.Linear(6, 5)).astype(dtype)


def rows_of(rank, step=0):
    """Return a rank's rows: another number on each, none on the second of three."""
    return batch((6, 6, 2), 100 * rank + step, (rank * 2 + 3 + step) % 5 if rank else 4, "float64")


def together(parts):
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def synchronized_model(comm):
    with one_at_a_time:
        model = made(normed, "float64")
    return nn.SyncBatchNorm.convert(model, comm)


@pytest.mark.mpi
def test_gradients_and_statistics_are_those_of_all_rows(comm):
    """Unequal numbers of rows, none on some ranks."""
    check_gradients(comm)


def test_any_number_of_ranks():
    """Threads as ranks."""
    for size in (2, 3, 5, 8):
        on_ranks(size, check_gradients)


def check_gradients(comm):
    model = synchronized_model(comm)
    synchronizer = parallel.GradientSynchronizer(model, comm)
    x, y = rows_of(comm.rank)
    nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
    everything = together([rows_of(rank) for rank in range(comm.size)])
    with one_at_a_time:
        assert_gradients(model, gradients_alone(normed, "float64", cross_entropy_on(*everything)), 1e-10)
        alone = made(normed, "float64")
        alone(distdl.tensor(everything[0]))
    for (name, ours), (_, theirs) in zip(model.named_buffers(), alone.named_buffers(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12, err_msg=name)
    synchronizer.close()


@pytest.mark.mpi
def test_accumulated_micro_batches_are_a_sum_of_global_means(comm):
    """Whatever the shares, without asking for exact=True."""
    model = synchronized_model(comm)
    synchronizer = parallel.GradientSynchronizer(model, comm)
    steps = [[rows_of(rank, step) for rank in range(comm.size)] for step in range(3)]
    for i, parts in enumerate(steps):
        x, y = parts[comm.rank]
        with synchronizer.no_sync() if i < 2 else contextlib.nullcontext():
            nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
    losses = [cross_entropy_on(*together(parts)) for parts in steps]
    assert_gradients(model, gradients_alone(normed, "float64", *losses), 1e-10)
    synchronizer.close()


def batches_of(rank, size):
    return 2 * (size - 1 - rank) + (size == 1)


def joined(comm, micro=1):
    model = synchronized_model(comm)
    inner = optim.SGD(model, lr=0.05, momentum=0.9)
    optimizer = parallel.DistributedOptimizer(inner, comm, model=model, check_every=2)
    with optimizer.join():
        for i in range(batches_of(comm.rank, comm.size)):
            if i % micro == 0:
                optimizer.zero_grad()
            is_last = i % micro == micro - 1
            x, y = rows_of(comm.rank, i)
            with contextlib.nullcontext() if is_last else optimizer.no_sync():
                nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
            if is_last:
                optimizer.step()
    optimizer.close()
    return model, parallel.replica_digests(model, comm)


def alone(size, micro=1):
    model = made(normed, "float64")
    optimizer = optim.SGD(model, lr=0.05, momentum=0.9)
    steps = max(batches_of(rank, size) for rank in range(size))
    for i in range(steps):
        parts = [rows_of(rank, i) for rank in range(size) if i < batches_of(rank, size)]
        if i % micro == 0:
            optimizer.zero_grad()
        nn.functional.cross_entropy(model(distdl.tensor(together(parts)[0])), together(parts)[1]).backward()
        if i % micro == micro - 1 or i == steps - 1:
            optimizer.step()
    return model


@pytest.mark.mpi
@pytest.mark.parametrize("micro", [1, 2])
def test_ranks_without_batches_take_part(comm, micro):
    """Within join(), also in the middle of accumulation."""
    model, digests = joined(comm, micro)
    assert len(set(digests)) == 1
    assert relative_difference(model, alone(comm.size, micro)) < 1e-10


@pytest.mark.parametrize("micro", [1, 2])
def test_any_number_of_ranks_may_join(micro):
    """Threads as ranks: 2 to 5 ranks with 0, 2, 4 ... batches."""
    for size in (2, 3, 5):
        for model, digests in on_ranks(size, lambda comm: joined(comm, micro)):
            assert len(set(digests)) == 1
            assert relative_difference(model, alone(size, micro)) < 1e-10


@pytest.mark.mpi
def test_a_step_that_nobody_ends_is_taken(comm):
    """All ranks end between two micro-batches: what they have is one more step, as on one rank."""
    weights = []
    for ranks in (comm, SerialCommunicator()):
        model = nn.SyncBatchNorm.convert(made(normed, "float64"), ranks)
        optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.05), ranks, model=model)
        with optimizer.join():
            for i in range(3):
                optimizer.zero_grad() if i % 2 == 0 else None
                parts = [rows_of(rank, i) for rank in range(comm.size)]
                x, y = parts[comm.rank] if ranks is comm else together(parts)
                with optimizer.no_sync() if i % 2 == 0 else contextlib.nullcontext():
                    nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
                if i % 2:
                    optimizer.step()
        weights.append(model)
        optimizer.close()
    assert relative_difference(*weights) < 1e-10


@pytest.mark.mpi
def test_a_rank_that_steps_without_a_forward_pass_counts_nothing(comm):
    """Within join(), where others are at their last."""
    model = synchronized_model(comm)
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.05), comm, model=model)
    with optimizer.join():
        if comm.rank == 0:
            x, y = rows_of(0)
            nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
        optimizer.step()
    reference = made(normed, "float64")
    nn.functional.cross_entropy(reference(distdl.tensor(rows_of(0)[0])), rows_of(0)[1]).backward()
    optim.SGD(reference, lr=0.05).step()
    assert relative_difference(model, reference) < 1e-10
    optimizer.close()


@pytest.mark.mpi
def test_statistics_over_some_ranks(comm):
    """Layers may meet on a part of the ranks: the gradients of these parts are weighted as one."""
    part = comm.split(comm.rank // 2)
    with one_at_a_time:
        model = nn.SyncBatchNorm.convert(made(normed, "float64"), part)
    synchronizer = parallel.GradientSynchronizer(model, comm)
    x, y = rows_of(comm.rank)
    nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
    parts = [[rows_of(rank) for rank in range(comm.size) if rank // 2 == i] for i in range((comm.size + 1) // 2)]
    rows = [len(together(group)[1]) for group in parts]
    reference = made(normed, "float64")
    for group, count in zip(parts, rows, strict=True):
        everything = together(group)
        (cross_entropy_on(*everything)(reference) * (count / sum(rows))).backward()
    expected = {name: parameter.grad for name, parameter in reference.named_parameters()}
    assert_gradients(model, expected, 1e-10)
    optimizer_comm = synchronizer.comm
    synchronizer.close()
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), optimizer_comm)
    if comm.size > 1:
        with pytest.raises(ArgumentError, match="over the ranks of the gradients"), optimizer.join():
            pass
    optimizer.close()


def test_a_copy_meets_too(comm):
    """Copies of a layer are known to join()."""
    model = nn.Sequential(nn.Linear(2, 3), nn.SyncBatchNorm(3, comm=comm))
    before = len(comm.meetings.layers)
    twin = copy.deepcopy(model)
    assert twin[1].comm is comm
    assert len(comm.meetings.layers) == before + 1


def test_evaluation_does_not_meet(comm):
    """Also where it takes the statistics of the batch."""
    norm = nn.SyncBatchNorm(3, track_running_stats=False, comm=comm).eval()
    before = comm.collectives
    norm(distdl.tensor(np.ones((4, 3), np.float32)))
    assert comm.collectives == before


def test_a_shared_layer_stays_shared(comm):
    norm = nn.BatchNorm1d(3)
    model = nn.SyncBatchNorm.convert(nn.Sequential(norm, nn.ReLU(), norm), comm)
    assert model[0] is model[2]


@pytest.mark.mpi
def test_a_rank_that_ends_within_a_step_brings_what_it_has(comm):
    """It ends between two micro-batches, while others wait for it at their last."""
    model = synchronized_model(comm)
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.05), comm)
    with optimizer.join():
        x, y = rows_of(comm.rank)
        is_last = comm.rank == 0
        with contextlib.nullcontext() if is_last else optimizer.no_sync():
            nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
        if is_last:
            optimizer.step()
    assert len(set(parallel.replica_digests(model, comm))) == 1
    reference = made(normed, "float64")
    everything = together([rows_of(rank) for rank in range(comm.size)])
    nn.functional.cross_entropy(reference(distdl.tensor(everything[0])), everything[1]).backward()
    optim.SGD(reference, lr=0.05).step()
    assert relative_difference(model, reference) < 1e-10
    optimizer.close()


@pytest.mark.mpi
@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), lambda outputs, targets: (outputs * outputs).mean()])
def test_the_trainer_runs_it_with_a_short_last_batch(comm, loss):
    """On the last step some ranks have no rows; running statistics stay equal without averaging."""
    model = nn.SyncBatchNorm.convert(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), comm)
    rows = 4 * comm.size + 1
    x = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    samples = data.ArrayDataset(x, np.arange(rows) % 2)
    trainer = train.Trainer(model, optim.SGD(model, lr=0.1), loss, comm, metrics=[], progress=False)
    trainer.fit(samples, epochs=2, batch_size=4 * comm.size)
    assert len(set(parallel.replica_digests(model, comm))) == 1
    trainer.close()


@pytest.mark.mpi
def test_reproducible_mode_refuses_it(comm):
    """Its shards run one after another."""
    model = nn.SyncBatchNorm.convert(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), comm)
    samples = data.ArrayDataset(np.ones((16, 3), np.float32), np.zeros(16, np.int64))
    optimizer = optim.SGD(model, lr=0.1)
    trainer = train.Trainer(model, optimizer, nn.CrossEntropyLoss(), comm, progress=False, reproducible=True)
    with pytest.raises(ArgumentError, match="synchronized batch norm cannot"):
        trainer.fit(samples, batch_size=16)
    trainer.close()
    plain = parallel.GradientSynchronizer(model, comm)
    model(distdl.tensor(np.ones((4, 3), np.float32))).sum().backward()
    plain.close()


def test_alone_it_is_batch_norm(comm):
    """Up to rounding, also after conversion of a trained one; in evaluation to the bit."""
    if comm.size > 1:
        return
    model = made(normed, "float32")
    x = distdl.tensor(batch((6, 6, 2), 1, 5, "float32")[0])
    model(x)
    twin = SyncBatchNorm.convert(copy.deepcopy(model), comm)
    assert isinstance(twin[1], nn.SyncBatchNorm)
    assert parallel.digest(twin) == parallel.digest(model)
    np.testing.assert_allclose(twin(x).numpy(), model(x).numpy(), rtol=2e-5, atol=1e-6)
    for ours, theirs in zip(twin.named_buffers(), model.named_buffers(), strict=True):
        ours[1][...] = theirs[1]
    np.testing.assert_array_equal(twin.eval()(x).numpy(), model.eval()(x).numpy())


def test_conversion_of_a_single_layer(comm):
    """Nothing else is changed."""
    norm = nn.BatchNorm2d(3, affine=False, momentum=None)
    made = nn.SyncBatchNorm.convert(norm, comm)
    assert type(made) is nn.SyncBatchNorm
    assert (made.weight, made.momentum) == (None, None)
    linear = nn.Linear(2, 2)
    assert nn.SyncBatchNorm.convert(linear, comm) is linear


def test_a_wrong_communicator_is_named():
    with pytest.raises(ArgumentTypeError, match="comm"):
        nn.SyncBatchNorm(3, comm="world")


def test_a_wrong_shape_is_named(comm):
    with pytest.raises(ArgumentError, match=r"rows, \.\.\., 3"):
        nn.SyncBatchNorm(3, comm=comm)(distdl.zeros(2, 4))
