"""The gradient synchronizer on real ranks; each rank also computes the whole alone, as the reference."""

import numpy as np
import pytest

import distdl
from distdl import nn, optim, parallel
from distdl.comm import SerialCommunicator
from tests.parallel.replicas import (
    MODELS,
    assert_gradients,
    batch,
    collectives,
    cross_entropy_on,
    dense,
    gradients_alone,
    made,
    relative_difference,
    synchronized,
)

pytestmark = [pytest.mark.mpi, pytest.mark.usefixtures("mode")]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", sorted(MODELS))
def test_50_steps_on_n_ranks_equal_50_steps_on_one(comm, kind, dtype):
    """Shares of 7 rows (unequal, and none on some ranks) train to the weights of one rank, the same bits everywhere."""
    build, shape = MODELS[kind]
    model, reference = made(build, dtype, seed=comm.rank), made(build, dtype, seed=0)
    optimizer = parallel.DistributedOptimizer(
        optim.SGD(model, lr=0.05, momentum=0.9, weight_decay=1e-3), comm, model=model
    )
    for step in range(50):
        rows = 7 if step % 10 else 2
        x, y = batch(shape, step, rows, dtype)
        optimizer.zero_grad()
        mine = slice(comm.rank, None, comm.size)
        nn.functional.cross_entropy(model(distdl.tensor(x[mine])), y[mine]).backward()
        optimizer.step()
        assert len(set(parallel.replica_digests(model, comm))) == 1, f"replicas differ after step {step}"
    reference_optimizer = optim.SGD(reference, lr=0.05, momentum=0.9, weight_decay=1e-3)
    for step in range(50):
        x, y = batch(shape, step, 7 if step % 10 else 2, dtype)
        reference_optimizer.zero_grad()
        nn.functional.cross_entropy(reference(distdl.tensor(x)), y).backward()
        reference_optimizer.step()
    assert relative_difference(model, reference) <= (1e-5 if dtype == "float32" else 1e-11)


def test_gradients_are_global_when_backward_returns(comm):
    """Class weights and ignored rows are part of the mean's denominator, on every rank its own."""
    x, y = batch((12,), 0, 11, "float64")
    y[[1, 4, 5]] = -100
    options = {"weight": np.array([1.0, 2.0, 0.5, 3.0, 1.0])}
    model, _ = synchronized(comm)
    cross_entropy_on(x[comm.rank :: comm.size], y[comm.rank :: comm.size], **options)(model).backward()
    assert_gradients(model, gradients_alone(dense, "float64", cross_entropy_on(x, y, **options)))


def test_a_loss_keeps_its_weight_through_arithmetic(comm):
    """Scaling a loss, or adding a penalty without rows, leaves its denominator alone."""
    x, y = batch((12,), 0, 11, "float64")

    def loss_on(x, y):
        return lambda model: 0.5 * cross_entropy_on(x, y)(model) + 0.01 * (model[0].weight ** 2).sum()

    model, _ = synchronized(comm)
    loss_on(x[comm.rank :: comm.size], y[comm.rank :: comm.size])(model).backward()
    assert_gradients(model, gradients_alone(dense, "float64", loss_on(x, y)))


def test_a_hand_written_loss_says_its_weight(comm):
    """backward(weight=rows) gives the global mean of a mean that carries no denominator."""
    x, _ = batch((12,), 0, 11, "float64")
    model, _ = synchronized(comm)
    mine = x[comm.rank :: comm.size]
    (model(distdl.tensor(mine)) ** 2).mean().backward(weight=len(mine))
    assert_gradients(model, gradients_alone(dense, "float64", lambda m: (m(distdl.tensor(x)) ** 2).mean()))


def test_without_a_weight_all_ranks_count_alike(comm):
    """The gradient of a loss without denominator is the plain mean over the ranks."""
    x, _ = batch((12,), 0, comm.size, "float64")
    model, _ = synchronized(comm)
    (model(distdl.tensor(x[comm.rank : comm.rank + 1])) ** 2).sum().backward()
    assert_gradients(
        model, gradients_alone(dense, "float64", lambda m: (m(distdl.tensor(x)) ** 2).sum() / float(comm.size))
    )


def test_parameters_that_take_part_on_some_ranks_only(comm):
    """A parameter used on the last rank alone gets its global gradient everywhere; one used nowhere gets None."""
    distdl.manual_seed(3)
    model = nn.ModuleList([nn.Linear(3, 1), nn.Linear(3, 1), nn.Linear(3, 1)])
    parallel.GradientSynchronizer(model, comm)
    x = distdl.tensor(np.ones((2, 3), np.float32))
    y = model[0](x).sum()
    if comm.rank == comm.size - 1:
        y = y + model[1](x).sum()
    y.backward()
    np.testing.assert_allclose(model[0].bias.grad, 2.0)
    np.testing.assert_allclose(model[1].bias.grad, 2.0 / comm.size)
    assert model[2].bias.grad is None


def test_a_rank_without_backward_joins_in_step(comm):
    """A rank whose loss reaches no parameter takes part when the optimizer steps, with weight 0."""
    model = made(dense, "float64")
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=1.0), comm)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    x, y = batch((12,), 0, 6, "float64")
    for _ in range(3):
        optimizer.zero_grad()
        if comm.rank == 0:
            cross_entropy_on(x, y)(model).backward()
        assert optim.clip_grad_norm_(model, 1e9) > 0
        optimizer.step()
    reference = made(dense, "float64")
    plain = optim.SGD(reference, lr=1.0)
    for _ in range(3):
        plain.zero_grad()
        cross_entropy_on(x, y)(reference).backward()
        plain.step()
    assert relative_difference(model, reference) <= 1e-12
    assert any((before[name] != array).any() for name, array in model.state_dict().items())


@pytest.mark.parametrize(("bucket_bytes", "buckets"), [(1, 4), (10**6, 1)])
def test_one_collective_per_bucket_and_step(comm, bucket_bytes, buckets):
    """Small buckets hold a parameter each, a large one all; each is reduced once a step."""
    model = made(dense, "float32")
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm, bucket_bytes=bucket_bytes)
    assert len(optimizer.synchronizer.buckets) == buckets
    x, y = batch((12,), 0, 8, "float32")
    before = collectives(comm)
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy_on(x, y)(model).backward()
        optimizer.step()
    assert collectives(comm) - before == (3 * buckets if comm.size > 1 else 0)


def test_gradients_are_views_of_the_bucket(comm):
    """Backward writes into the bucket itself: nothing is packed or copied afterwards."""
    model, synchronizer = synchronized(comm)
    x, y = batch((12,), 0, 8, "float64")
    cross_entropy_on(x, y)(model).backward()
    for bucket in synchronizer.buckets:
        for parameter in bucket.parameters:
            assert np.shares_memory(parameter.grad, bucket.flat)
            assert parameter.grad.ctypes.data % 64 == 0


@pytest.mark.mpi(min_size=2)
def test_mixed_means_need_a_weight(comm):
    """A sum of means over different counts cannot be weighed, and says so."""
    model, _ = synchronized(comm)
    (x, y), (u, v) = batch((12,), 0, 4, "float64"), batch((12,), 1, 6, "float64")
    loss = cross_entropy_on(x, y)(model) + cross_entropy_on(u, v)(model)
    with pytest.raises(ValueError, match=r"loss.backward\(weight=rows\)"):
        loss.backward()
    loss.backward(weight=1)
    assert model[0].weight.grad is not None


def test_alone_nothing_changes():
    """On one rank a synchronizer gives exactly the gradients of a model without one."""
    model = made(dense, "float32")
    parallel.GradientSynchronizer(model, SerialCommunicator())
    x, y = batch((12,), 0, 8, "float32")
    for _ in range(2):
        cross_entropy_on(x, y)(model).backward()
    expected = gradients_alone(dense, "float32", cross_entropy_on(x, y), cross_entropy_on(x, y))
    for name, parameter in model.named_parameters():
        assert (parameter.grad == expected[name]).all()


def test_a_parameter_has_one_synchronizer(comm):
    """A second synchronizer of the same parameters is refused until the first is closed."""
    model, synchronizer = synchronized(comm)
    with pytest.raises(ValueError, match="has a synchronizer already"):
        parallel.GradientSynchronizer(model, comm)
    synchronizer.close()
    parallel.GradientSynchronizer(model, comm)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda comm: parallel.DistributedOptimizer(object(), comm), "`optimizer`"),
        (lambda comm: parallel.GradientSynchronizer([], comm), "must not be empty"),
        (lambda comm: parallel.GradientSynchronizer([distdl.tensor(1.0)], comm), "must hold Parameters"),
        (lambda comm: parallel.GradientSynchronizer(nn.Linear(2, 2), comm, bucket_bytes=0), "`bucket_bytes` "),
    ],
)
def test_bad_arguments(comm, make, message):
    """Wrong arguments are named."""
    with pytest.raises((ValueError, TypeError), match=message):
        make(comm)


def test_groups_cannot_be_added_afterwards(comm):
    """The buckets are laid out in the constructor."""
    optimizer = parallel.DistributedOptimizer(optim.SGD(nn.Linear(2, 2), lr=0.1), comm)
    with pytest.raises(ValueError, match="before wrapping"):
        optimizer.add_param_group({"params": nn.Linear(2, 2)})


def test_optimizer_state_passes_through(comm):
    """state_dict and load_state_dict are those of the optimizer within."""
    model = made(dense, "float32")
    optimizer = parallel.DistributedOptimizer(optim.Adam(model), comm)
    x, y = batch((12,), 0, 8, "float32")
    cross_entropy_on(x, y)(model).backward()
    optimizer.step()
    saved = optimizer.state_dict()
    optimizer.load_state_dict(saved)
    assert optimizer.state is optimizer.optimizer.state
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    assert saved["state"].keys() == {name for name, _ in optimizer.named_parameters()}
