"""Several threads of a rank give what one gives, and the same bits every time."""

import numpy as np
import pytest

import distdl
from distdl import nn
from distdl.core import threads
from distdl.kernels import team

MODELS = {
    "winograd": (lambda: nn.Conv2d(16, 24, 3, padding=1), (7, 12, 12, 16)),
    "direct": (lambda: nn.Conv2d(3, 24, 3, stride=2), (7, 12, 12, 3)),
    "joined": (lambda: nn.Sequential(nn.Conv2d(16, 24, 3), nn.ReLU(), nn.MaxPool2d(2)), (7, 12, 12, 16)),
    "linear": (lambda: nn.Sequential(nn.Linear(70, 90), nn.ReLU()), (50, 70)),
    "batch norm": (lambda: nn.Sequential(nn.BatchNorm2d(20), nn.ReLU()), (7, 5, 5, 20)),
    "pooling": (lambda: nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2)), (7, 12, 12, 5)),
    "halving": (lambda: nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), (7, 12, 11, 5)),
}


def passes(model, shape):
    """Return the result and all gradients."""
    rng = np.random.default_rng(1)
    x = distdl.tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True)
    y = model(x)
    y.backward(rng.standard_normal(y.shape).astype(np.float32))
    results = [y.data, x.grad, *(parameter.grad for parameter in model.parameters())]
    model.zero_grad()
    return results


@pytest.mark.parametrize("name", sorted(MODELS))
def test_threads_change_nothing_but_rounding(name, monkeypatch):
    """With 1, 2, 3 and 5 threads results and gradients agree; with one number of threads they are the same bits."""
    make, shape = MODELS[name]
    model = make()
    monkeypatch.setattr(team, "_WORTH_A_THREAD", 1)
    monkeypatch.setattr(threads, "_current", threads.Threads(1, "test"))
    alone = passes(model, shape)
    for count in (2, 3, 5):
        monkeypatch.setattr(threads, "_current", threads.Threads(count, "test"))
        first = passes(model, shape)
        for ours, theirs in zip(first, alone, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5 * np.abs(theirs).max())
        for _ in range(5):
            for again, once in zip(passes(model, shape), first, strict=True):
                np.testing.assert_array_equal(again, once)
