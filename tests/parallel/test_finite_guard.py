"""Steps whose gradients are not finite are left out on all ranks, counted, and end the job if they go on."""

import numpy as np
import pytest

import distdl
from distdl import nn, optim, parallel
from distdl.core.errors import ArgumentError, DivergenceError
from distdl.kernels.finite import is_finite


def step(model, optimizer, x):
    optimizer.zero_grad()
    nn.functional.mse_loss(model(distdl.tensor(x)), np.zeros((len(x), 2), np.float32)).backward()
    optimizer.step()


@pytest.mark.mpi
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_bad_row_on_one_rank_skips_the_step_on_all(comm, value, capfd):
    """No parameter, momentum or counter changes anywhere, and the next step is taken."""
    model = nn.Linear(3, 2)
    optimizer = parallel.DistributedOptimizer(optim.Adam(model, lr=0.1), comm)
    good = np.full((2, 3), comm.rank + 1, np.float32)
    step(model, optimizer, good)
    before, states = parallel.digest(model), [dict(state) for state in optimizer.state]
    bad = good.copy()
    if comm.rank == comm.size - 1:
        bad[1, 2] = value
    step(model, optimizer, bad)
    assert parallel.digest(model) == before
    assert [state["step"] for state in optimizer.state] == [state["step"] for state in states]
    assert optimizer.skipped == 1
    step(model, optimizer, good)
    assert parallel.digest(model) != before
    assert optimizer.skipped == 1
    assert len(set(parallel.replica_digests(model, comm))) == 1
    told = capfd.readouterr().err
    assert ("step 2 is left out on all ranks: the gradient of 'weight' is NaN or infinite" in told) == (comm.rank == 0)


@pytest.mark.mpi
def test_too_many_in_a_row_end_the_training(comm):
    """A good step starts the count anew; the limit raises on every rank, and names step and parameter."""
    model = nn.Linear(3, 2)
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm, max_skipped=3)
    good, bad = np.ones((2, 3), np.float32), np.full((2, 3), np.nan if comm.rank == 0 else 1, np.float32)
    for x in (bad, bad, good, bad, bad):
        step(model, optimizer, x)
    with pytest.raises(DivergenceError, match=r"3 steps in a row .* step 6 in 'weight'"):
        step(model, optimizer, bad)
    assert optimizer.skipped == 5


@pytest.mark.mpi
def test_nobody_needs_to_look(comm):
    """With max_skipped=None a NaN goes where it goes."""
    model = nn.Linear(3, 2)
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm, max_skipped=None)
    step(model, optimizer, np.full((2, 3), np.nan, np.float32))
    assert np.isnan(model.weight.data).all()


def test_the_limit_is_checked():
    """It is a number of steps."""
    with pytest.raises(ArgumentError, match="max_skipped"):
        parallel.DistributedOptimizer(optim.SGD(nn.Linear(2, 2), lr=0.1), distdl.world(), max_skipped=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000])
def test_finite_is_what_numpy_calls_finite(dtype, size):
    """The greatest finite numbers pass; one NaN or infinity of either sign anywhere does not."""
    array = np.random.default_rng(size).normal(size=size).astype(dtype)
    limits = np.finfo(dtype)
    array[:2] = [limits.max, limits.min][: len(array[:2])]
    assert is_finite(array)
    assert is_finite(array[::2])
    for place in {0, size // 2, size - 1} if size else ():
        for value in (np.nan, -np.nan, np.inf, -np.inf):
            spoilt = array.copy()
            spoilt[place] = value
            assert not is_finite(spoilt)
