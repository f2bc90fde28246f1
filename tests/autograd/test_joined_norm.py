"""A batch norm leaves its input gradient to the convolution before, and a convolution adds its own to what is there."""

import numpy as np
import pytest

import distdl
from distdl import nn
from distdl.autograd import tape
from distdl.core import threads
from distdl.ops import batch, conv_winograd

F = nn.functional

LAYERS = {
    "winograd": (lambda: nn.Conv2d(16, 20, 3, padding=1, bias=False), (3, 9, 6, 16)),
    "winograd with a ReLU": (lambda: nn.Sequential(nn.Conv2d(16, 20, 3), nn.ReLU()), (3, 9, 6, 16)),
    "winograd with pooling": (lambda: nn.Sequential(nn.Conv2d(16, 20, 3), nn.MaxPool2d(2)), (3, 9, 6, 16)),
    "direct": (lambda: nn.Conv2d(3, 20, 3, stride=2), (3, 9, 9, 3)),
    "pointwise": (lambda: nn.Conv2d(5, 20, 1), (3, 9, 9, 5)),
    "grouped": (lambda: nn.Conv2d(4, 20, 3, groups=2), (3, 9, 9, 4)),
    "linear": (lambda: nn.Linear(7, 20), (3, 4, 5, 7)),
}


def drawn(shape, dtype="float32", seed=2):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def train_once(layer, norm, x, behind, between):
    """Return result and gradients of a layer, a batch norm and what is `behind`; `between` gets the layer's result."""
    x = distdl.tensor(x, requires_grad=True)
    y = layer(x)
    between(y)
    z = behind(norm(y))
    z.backward(drawn(z.shape, z.dtype, 3))
    parameters = [*layer.parameters(), *norm.parameters()]
    results = [z.data, x.grad, *(parameter.grad for parameter in parameters)]
    for parameter in parameters:
        parameter.grad = None
    return results


@pytest.fixture
def computed(monkeypatch):
    """Return a list that gets what is computed of input gradients by itself."""
    calls = []
    compute = batch.InputGradient.compute
    monkeypatch.setattr(batch.InputGradient, "compute", lambda later: calls.append(later) or compute(later))
    return calls


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("behind", [lambda z: z, F.relu, lambda z: z * 2.0], ids=["nothing", "relu", "more"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_gradients_are_the_same(name, dtype, behind, training, computed):
    """Left to the layer or computed apart (a hook looks on), all gradients have the same bits."""
    make, shape = LAYERS[name]
    distdl.manual_seed(0)
    layer, norm = make().astype(dtype), nn.BatchNorm2d(20).astype(dtype).train(training)
    x = drawn(shape, dtype)
    apart = train_once(layer, norm, x, behind, lambda y: y.register_hook(lambda gradient: None))
    assert len(computed) == 1
    joined = train_once(layer, norm, x, behind, lambda y: None)
    assert len(computed) == (1 if name == "winograd" and dtype == "float32" else 2)
    for ours, theirs in zip(joined, apart, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_others_use_is_not_left(computed):
    """Where someone else takes the convolution's result too, its gradient is the sum of both."""
    layer, norm = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
    x = drawn((2, 8, 8, 16))
    y = layer(distdl.tensor(x))
    (norm(y) + y).sum().backward()
    assert len(computed) == 1
    # The sum of what a batch norm gives does not depend on its input.
    ours, layer.weight.grad = layer.weight.grad, None
    layer(distdl.tensor(x)).sum().backward()
    np.testing.assert_allclose(ours, layer.weight.grad, rtol=1e-3, atol=1e-3)


def test_anomalies_are_looked_for_in_between(computed):
    """`detect_anomaly` sees each operation's own gradient."""
    layer, norm = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
    with distdl.detect_anomaly():
        norm(layer(distdl.tensor(drawn((2, 8, 8, 16))))).sum().backward()
    assert len(computed) == 1


def test_a_graph_that_is_kept_can_be_walked_twice():
    layer, norm = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
    z = norm(layer(distdl.tensor(drawn((2, 8, 8, 16)))))
    gradients = []
    for _ in range(2):
        z.backward(drawn(z.shape, seed=3), retain_graph=True)
        gradients.append(layer.weight.grad.copy())
        layer.zero_grad()
    np.testing.assert_array_equal(*gradients)


@pytest.fixture
def added(monkeypatch):
    """Return a list that says of each Winograd backward pass whether it added to other gradients."""
    calls = []
    backward = conv_winograd.Winograd.backward

    def look(self, x, w, ending, dy, dx, dw):
        calls.append(isinstance(dx, np.ndarray))
        return backward(self, x, w, ending, dy, dx, dw)

    monkeypatch.setattr(conv_winograd.Winograd, "backward", look)
    return calls


def test_the_gradient_of_a_residual_block_is_added_where_it_is(added):
    """x + f(x), f of two convolutions: the first one's input gradient goes on top of the sum's."""
    inner = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))
    x = distdl.tensor(drawn((2, 8, 8, 16)), requires_grad=True)
    before = x * 1.0
    weights = drawn(x.shape, seed=3)
    # The sum's gradient is nobody's but the walk's.
    ((before + inner(before)) * 1.0).backward(weights)
    assert added == [False, True]
    ours, x.grad = x.grad, None
    inner(x * 1.0).backward(weights)
    np.testing.assert_allclose(ours, x.grad + weights, rtol=1e-4, atol=1e-5)


def test_nothing_is_added_to_what_others_hold(added):
    """The caller's gradient, and one that a retained tensor or a hook has seen, stay as they are."""
    inner = nn.Conv2d(16, 16, 3, padding=1)
    x = distdl.tensor(drawn((2, 8, 8, 16)), requires_grad=True)
    before = x * 1.0
    weights = drawn(x.shape, seed=3)
    copy, seen = weights.copy(), []
    total = before + inner(before)
    total.register_hook(lambda gradient: seen.append(gradient))
    total.backward(weights)
    assert added == [False]
    np.testing.assert_array_equal(weights, copy)
    np.testing.assert_array_equal(seen[0], copy)


def test_a_leaf_with_hooks_gets_each_gradient_once(added):
    """Its sum is kept by the walk, too, until its hooks have seen it."""
    layer = nn.Conv2d(16, 16, 3, padding=1)
    gradients = []
    for hooked in (False, True):
        x = distdl.tensor(drawn((2, 8, 8, 16)), requires_grad=True)
        if hooked:
            x.register_hook(lambda gradient: None)
        ((layer(x) + x * 2.0) * 1.0).backward(drawn(x.shape, seed=3))
        gradients.append(x.grad)
    assert added == [False, False]
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-6)


def test_sums_of_others_are_added_in_place(monkeypatch):
    """Operations that cannot add by themselves get no more than True, and their sums no new memory."""
    places = []
    monkeypatch.setattr(tape, "add_to", lambda a, b, out: places.append(out is a) or np.add(a, b, out=out))
    x = distdl.tensor(drawn((4, 4)), requires_grad=True)
    h = x * 1.0
    (h * 2.0 + h * 3.0 + h * 4.0).sum().backward()
    assert places == [True, True]
    np.testing.assert_array_equal(x.grad, np.full((4, 4), 9, np.float32))


def test_bits_do_not_depend_on_who_holds_a_sum_where_sums_are_fixed(added):
    """In reproducible mode gradients are added as wholes."""
    inner = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))
    gradients, kept = [], []
    threads.fix_sums()
    try:
        for look in (lambda gradient: None, kept.append):
            x = distdl.tensor(drawn((2, 8, 8, 16)), requires_grad=True)
            before = x * 1.0
            total = before + inner(before)
            total.register_hook(look)
            (total * 1.0).backward(drawn(x.shape, seed=3))
            gradients.append(x.grad)
    finally:
        threads.free_sums()
    assert added == [False] * 4
    np.testing.assert_array_equal(*gradients)


def between(layer, norm, x, hook):
    """Return a graph in which a hook runs after the norm is visited and before the convolution is."""
    h = layer(x)
    other = distdl.tensor(drawn(h.shape, seed=4), requires_grad=True) * 2.0
    other.register_hook(hook)
    return h, norm(h) + other


def test_what_a_failed_walk_left_is_forgotten():
    """A hook between norm and convolution raises; in the next walk of the graph the norm leaves nothing."""
    layer, norm = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
    weights = drawn((2, 8, 8, 16), seed=3)
    x = distdl.tensor(drawn((2, 8, 8, 16)), requires_grad=True)
    between(layer, norm, x, lambda gradient: None)[1].backward(weights)
    expected, x.grad = x.grad, None
    fails = [True]

    def fail_once(gradient):
        if fails.pop():
            raise RuntimeError("once")

    h, total = between(layer, norm, x, fail_once)
    with pytest.raises(RuntimeError, match="once"):
        total.backward(weights, retain_graph=True)
    fails.append(False)
    h.retain_grad()
    total.backward(weights)
    np.testing.assert_array_equal(x.grad, expected)


def test_a_walk_within_a_walk_is_one_of_its_own():
    """A hook between norm and convolution walks the same graph."""
    layer, norm = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
    weights = drawn((2, 8, 8, 16), seed=3)
    gradients = []
    for walks in (False, True):
        x = distdl.tensor(drawn((2, 8, 8, 16)), requires_grad=True)
        extra = []

        def walk(gradient, walks=walks, extra=extra):
            if walks:
                extra[0].backward(retain_graph=True)

        h, total = between(layer, norm, x, walk)
        extra.append((h * 0.0).sum())
        total.backward(weights, retain_graph=True)
        gradients.append(x.grad)
    np.testing.assert_array_equal(*gradients)


def test_a_walk_that_frees_what_another_still_needs_says_so():
    x = distdl.tensor(drawn((4, 4)), requires_grad=True)
    h = x * 2.0
    late = h * 3.0
    late.register_hook(lambda gradient: h.sum().backward())
    with pytest.raises(distdl.core.errors.GraphError, match="freed"):
        late.sum().backward()
