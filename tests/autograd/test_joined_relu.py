"""The gradient of a ReLU is left to the operation before it where nobody else sees what is between."""

import numpy as np
import pytest

import distdl
from distdl import nn
from distdl.ops import activation

F = nn.functional

LAYERS = {
    "winograd": (lambda: nn.Conv2d(16, 16, 3, padding=1), (2, 9, 9, 16)),
    "direct": (lambda: nn.Conv2d(3, 5, 3), (2, 9, 9, 3)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 9, 9, 4)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), (2, 9, 9, 4)),
    "linear": (lambda: nn.Linear(7, 33), (5, 7)),
    "linear on images": (lambda: nn.Linear(7, 33), (2, 3, 5, 7)),
    "batch norm": (lambda: nn.BatchNorm2d(20), (3, 5, 5, 20)),
    "batch norm of a sequence": (lambda: nn.BatchNorm1d(20), (30, 20)),
}


def train_once(layer, x, between):
    """Return result and gradients of a layer and a ReLU; `between` gets what lies between."""
    x = distdl.tensor(x, requires_grad=True)
    y = layer(x)
    between(y)
    z = F.relu(y)
    z.backward(np.random.default_rng(3).normal(size=z.shape).astype(z.dtype))
    results = [z.data, x.grad, *(parameter.grad for parameter in layer.parameters())]
    layer.zero_grad()
    return results


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_gradients_are_the_same(name, dtype, monkeypatch):
    """Left to the layer or computed apart (a hook looks on), all gradients are the same."""
    make, shape = LAYERS[name]
    layer = make().astype(dtype)
    x = np.random.default_rng(2).normal(size=shape).astype(dtype)
    apart = train_once(layer, x, lambda y: y.register_hook(lambda gradient: None))
    calls = []
    select = activation._select
    monkeypatch.setattr(activation, "_select", lambda *args: calls.append(args) or select(*args))
    joined = train_once(layer, x, lambda y: None)
    assert calls == []
    for ours, theirs in zip(joined, apart, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5 if dtype == "float32" else 1e-12, atol=1e-6)


def test_pooled_results_are_masked_too():
    """A ReLU behind a convolution that pools (a Sequential) and one that stands before it come to the same."""
    x = np.random.default_rng(2).normal(size=(2, 8, 8, 3)).astype("float32")
    conv = nn.Conv2d(3, 4, 3)
    gradients = []
    for model in (nn.Sequential(conv, nn.MaxPool2d(2), nn.ReLU()), nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2))):
        model(distdl.tensor(x)).sum().backward()
        gradients.append(conv.weight.grad.copy())
        model.zero_grad()
    np.testing.assert_allclose(*gradients, rtol=1e-5)


@pytest.mark.parametrize("second", ["square", "relu", "itself"])
def test_what_others_use_is_not_left(second):
    """Where someone else takes the same result, the ReLU computes its own gradient."""
    layer = nn.Linear(4, 6)
    x = np.random.default_rng(2).normal(size=(5, 4)).astype("float32")
    y = layer(distdl.tensor(x))
    other = {"square": lambda: y * y, "relu": lambda: F.relu(y), "itself": lambda: y}[second]()
    (F.relu(y) + other).sum().backward()
    values = y.data
    slope = (values > 0) + {"square": 2 * values, "relu": (values > 0) * 1.0, "itself": np.ones_like(values)}[second]
    np.testing.assert_allclose(layer.weight.grad, x.T @ slope, rtol=1e-5, atol=1e-5)


def test_a_relu_at_the_end_and_one_of_a_relu():
    """The root of a backward pass, and a ReLU of what has one within, are masked right."""
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.ReLU())
    x = np.random.default_rng(2).normal(size=(5, 4)).astype("float32")
    z = model(distdl.tensor(x))
    z.backward(np.ones(z.shape, "float32"))
    np.testing.assert_allclose(model[0].weight.grad, x.T @ (z.data > 0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [lambda: nn.Linear(4, 6), lambda: nn.BatchNorm1d(4)], ids=["linear", "batch norm"])
def test_a_result_that_was_changed_is_no_mask(make):
    """What a ReLU gave must be as it was, as where it computes its own gradient."""
    y = F.relu(make()(distdl.tensor(np.ones((5, 4), "float32"))))
    total = y.sum()
    with distdl.no_grad():
        y[...] = -1.0
    with pytest.raises(distdl.core.errors.GraphError, match="changed in place"):
        total.backward()


def test_a_graph_that_is_kept_can_be_walked_twice():
    """Both passes give the same gradient, and a pass from the layer's own result is not masked after one that was."""
    layer = nn.Linear(4, 6)
    x = np.random.default_rng(2).normal(size=(5, 4)).astype("float32")
    y = layer(distdl.tensor(x))
    z = F.relu(y).sum()
    z.backward(retain_graph=True)
    first = layer.weight.grad.copy()
    layer.zero_grad()
    z.backward(retain_graph=True)
    np.testing.assert_array_equal(layer.weight.grad, first)
    layer.zero_grad()
    y.backward(np.ones(y.shape, "float32"))
    np.testing.assert_allclose(layer.weight.grad, x.T @ np.ones(y.shape), rtol=1e-5, atol=1e-5)


def test_anomalies_are_still_found():
    """Under detect_anomaly every operation checks its own gradient."""
    layer = nn.Linear(4, 6)
    with distdl.detect_anomaly():
        z = F.relu(layer(distdl.tensor(np.ones((2, 4), "float32"))))
        with pytest.raises(distdl.core.errors.GraphError, match="NaN"):
            z.backward(np.full(z.shape, np.nan, "float32"))
