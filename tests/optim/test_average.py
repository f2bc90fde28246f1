"""Exponential moving averages of weights."""

import numpy as np
import pytest

import distdl
from distdl import nn, optim
from distdl.core.errors import ArgumentError, ArgumentTypeError


def moved(model, step):
    for parameter in model.parameters():
        with distdl.no_grad():
            parameter += step


def test_averages_follow_the_definition():
    """After n updates the average is the sum by the recursion; the parameters are left alone."""
    model = nn.Linear(3, 2).astype("float64")
    average = optim.ExponentialMovingAverage(model, decay=0.9)
    expected = {name: p.data.copy() for name, p in model.named_parameters()}
    for step in range(5):
        moved(model, step)
        before = model.weight.data.copy()
        average.update()
        np.testing.assert_array_equal(model.weight.data, before)
        for name, parameter in model.named_parameters():
            expected[name] = 0.9 * expected[name] + 0.1 * parameter.data
    for name, array in expected.items():
        np.testing.assert_allclose(average.averages[name], array, rtol=1e-12)


def test_warm_up_forgets_the_start():
    """At update n no more than (1 + n) / (10 + n) is kept."""
    model = nn.Linear(1, 1, bias=False).astype("float64")
    average = optim.ExponentialMovingAverage(model, decay=0.999, warmup=True)
    start = model.weight.data.item()
    moved(model, 1.0)
    average.update()
    np.testing.assert_allclose(average.averages["weight"].item(), start + 1 - 2 / 11)


def test_averages_are_lent_and_given_back():
    """Within the block the model computes with the averages; afterwards, an exception or not, with its own weights."""
    model = nn.Linear(3, 2)
    average = optim.ExponentialMovingAverage(model.named_parameters(), decay=0.5)
    optimizer = optim.SGD(model, lr=0.1)
    x = distdl.tensor(np.ones((4, 3), np.float32))
    at_first = model(x).numpy().copy()
    for _ in range(3):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
    own = model(x).numpy().copy()
    with average.applied():
        np.testing.assert_array_equal(model(x).numpy(), at_first)
    np.testing.assert_array_equal(model(x).numpy(), own)
    with pytest.raises(KeyError), average.applied():
        raise KeyError
    np.testing.assert_array_equal(model(x).numpy(), own)
    optimizer.zero_grad()
    model(x).sum().backward()
    optimizer.step()
    assert (model(x).numpy() != own).all()


def test_a_graph_from_before_is_refused():
    """Lending changes parameters in place, which a later backward() must not overlook."""
    model = nn.Linear(3, 2)
    average = optim.ExponentialMovingAverage(model)
    x = distdl.tensor(np.ones((4, 3), np.float32), requires_grad=True)
    y = model(x).sum()
    with average.applied():
        pass
    with pytest.raises(ValueError, match="changed"):
        y.backward()


def test_the_state_goes_on_elsewhere():
    """A saved average continues in another object to the same bits; other parameters are refused by name."""
    model = nn.Linear(3, 2)
    first = optim.ExponentialMovingAverage(model, decay=0.7, warmup=True)
    moved(model, 1.0)
    first.update()
    second = optim.ExponentialMovingAverage(model, decay=0.7, warmup=True)
    second.load_state_dict(first.state_dict())
    for average in (first, second):
        average.update()
    np.testing.assert_array_equal(first.averages["weight"], second.averages["weight"])
    assert second.updates == 2
    with pytest.raises(ArgumentError, match="'weight' of shape"):
        optim.ExponentialMovingAverage(nn.Linear(2, 2)).load_state_dict(first.state_dict())


def test_arguments_are_checked():
    """The decay is a share, and what is averaged are parameters."""
    with pytest.raises(ArgumentError, match="`decay`"):
        optim.ExponentialMovingAverage(nn.Linear(2, 2), decay=1.5)
    with pytest.raises(ArgumentTypeError, match="must be a Parameter"):
        optim.ExponentialMovingAverage([np.zeros(3)])
    with pytest.raises(ArgumentError, match="must not be empty"):
        optim.ExponentialMovingAverage([])
