"""Backward: what ends up in .grad, what is freed, and what is refused."""

import weakref

import numpy as np
import pytest

import distdl
from distdl import autograd, optim
from distdl.core.errors import GraphError


def leaf(*values):
    return distdl.tensor(np.array(values), requires_grad=True)


def test_gradients_accumulate_over_uses_and_backwards():
    """Uses within a graph, and backward() calls, add up."""
    x = leaf(1.0, 2.0)
    for _ in range(2):
        (x * x + x).sum().backward()
    assert x.grad.tolist() == [6, 10]


def test_a_leaf_has_its_own_gradient():
    """backward() on the leaf itself copies the gradient that is given; a graph's gradients share no memory."""
    x, y, g = leaf(1.0), leaf(2.0), np.ones(1)
    x.backward(g)
    x.backward(distdl.tensor(g))
    assert x.grad.tolist() == [2]
    assert g.tolist() == [1]
    a, b = leaf(1.0), leaf(2.0)
    (a + b).backward(g)
    a.grad += 5
    assert b.grad.tolist() == g.tolist() == [1]
    assert y.grad is None


def test_gradients_kept_by_an_operation_are_copied():
    """An operation that returns an array it keeps, or one for two arguments, does not share it with .grad."""
    kept = np.ones(2)

    @distdl.op
    def both(a, b):
        return a + b, lambda dy: (kept, kept)

    a, b = leaf(1.0, 2.0), leaf(1.0, 2.0)
    both(a, b).sum().backward()
    a.grad += 1
    assert b.grad.tolist() == kept.tolist() == [1, 1]


def test_custom_operations():
    """A custom operation may take `wanted`, options, and plain arguments."""

    @distdl.op
    def scale(x, factor, *, times=1):
        def backward(dy, wanted):
            assert wanted == (True, False)
            return dy * factor * times, None

        return x * factor * times, backward

    x = leaf(1.0)
    y = scale(x, 3.0, times=2)
    y.backward()
    assert y.item() == x.grad[0] == 6
    assert distdl.gradcheck(lambda x: scale(x, 3.0), x)


@pytest.mark.parametrize(
    ("gradient", "message"),
    [(lambda dy: (dy, dy), "returned 2 gradients for 1"), (lambda dy: np.ones(5), r"returned shape \(5,\)")],
)
def test_wrong_gradient_functions_are_named(gradient, message):
    """A wrong number or shape of gradients names the operation."""

    @distdl.op
    def broken(x):
        return x * 2, gradient

    with pytest.raises(GraphError, match=f"`broken` {message}"):
        broken(leaf(1.0)).backward()


def test_no_gradient_is_a_zero_gradient():
    """A gradient function may return None: what lies behind gets no gradient."""

    @distdl.op
    def stop(x):
        return x * 2, lambda dy: (None,)

    x, y = leaf(1.0), leaf(1.0)
    (stop(x * 3) + stop(y)).backward()
    assert x.grad is None
    assert y.grad is None


def test_the_graph_is_freed_unless_retained():
    """A second backward() names the operation that was freed; with retain_graph it adds."""
    x = leaf(2.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [8]
    with pytest.raises(GraphError, match=r"`multiply`.*retain_graph=True"):
        y.backward()


def test_memory_is_freed_as_backward_walks():
    """What an operation kept for its gradient is gone when backward() returns, though the result lives on."""
    kept = []

    @distdl.op
    def keeps(x):
        array = np.array(x)
        kept.append(weakref.ref(array))
        return x * 2, lambda dy: dy * array * 0 + 2

    y = keeps(leaf(1.0)).sum()
    assert kept[0]() is not None
    y.backward()
    assert kept[0]() is None


def test_deep_graphs_do_not_recurse():
    """20,000 operations in a row go back."""
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = y + 1.0
    y.backward()
    assert x.grad.tolist() == [1]


def test_recording_can_be_switched():
    """no_grad() records nothing, as a block or decorator; enable_grad() within it does."""
    x = leaf(1.0)

    @distdl.no_grad()
    def double():
        assert not autograd.is_grad_enabled()
        return x * 2

    assert not double().requires_grad
    with distdl.no_grad(), distdl.enable_grad():
        assert (x * 2).requires_grad
    assert autograd.is_grad_enabled()


def test_frozen_leaves_get_no_gradient():
    """requires_grad = False keeps a leaf out."""
    x, w = leaf(1.0), leaf(2.0)
    w.requires_grad_(False)
    (x * w).backward()
    assert w.grad is None
    assert x.grad.tolist() == [2]


def test_hooks_see_and_replace_gradients():
    """Hooks of results and of leaves run once with the sum over all uses, may replace it, and can be removed."""
    x = leaf(1.0)
    seen = []
    remove = x.register_hook(lambda g: seen.append(g.copy()))
    x.register_hook(lambda g: g * 10)
    y = x * 2
    y.register_hook(lambda g: g + 1)
    (y + x).backward()
    assert [g.tolist() for g in seen] == [[5]]
    assert x.grad.tolist() == [50]
    remove()
    remove()
    (x * 1).backward()
    assert len(seen) == 1
    assert x.grad.tolist() == [60]
    x.register_hook(lambda g: np.ones(7))
    with pytest.raises(GraphError, match=r"shape \(7,\)"):
        (x * 1).backward()


def test_gradients_of_results_can_be_retained():
    """retain_grad() sets .grad of a tensor that is no leaf."""
    x = leaf(3.0)
    y = x * 2
    y.retain_grad()
    x.retain_grad()
    (y * y).backward(retain_graph=True)
    (y * 1).backward()
    assert y.grad.tolist() == [13]


CHANGES = {
    "operator": lambda x: x.__iadd__(1.0),
    "item": lambda x: x.__setitem__(0, 9.0),
    "data": lambda x: setattr(x, "data", np.ones(1)),
    "data operator": lambda x: setattr(x, "data", x.data + 1),
    "through a view": lambda x: x.reshape(1, 1).__iadd__(1.0),
    "through detach": lambda x: x.detach().__iadd__(1.0),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_changes_that_corrupt_a_gradient_are_found(change):
    """What multiply needs was changed before backward(): the error names the operation."""
    x = leaf(2.0)
    y = x * x
    with distdl.no_grad():
        CHANGES[change](x)
    with pytest.raises(GraphError, match="`multiply` needs was changed in place"):
        y.backward()


def test_changes_of_a_result_are_found():
    """exp reads its own result in backward()."""
    x = leaf(2.0)
    y = x.exp()
    with distdl.no_grad():
        y += 1
    with pytest.raises(GraphError, match="`exp`"):
        y.backward()


def test_changes_that_nobody_reads_do_no_harm():
    """add needs neither of its inputs."""
    x = leaf(2.0)
    y = x + x
    with distdl.no_grad():
        x += 1
    y.backward()
    assert x.grad.tolist() == [2]


def test_a_step_between_forward_and_backward_is_found():
    """An optimizer that steps between has changed the weights."""
    w = autograd.Parameter([1.0])
    optimizer = optim.SGD([w], lr=0.1)
    (w * w).backward()
    late = w * w
    optimizer.step()
    with pytest.raises(GraphError, match="changed in place"):
        late.backward()


def test_detect_anomaly_finds_writes_behind_the_tensor():
    """Within detect_anomaly() even x.numpy()[0] = 5 is found, and NaN gradients are named."""
    x = leaf(2.0)
    with distdl.detect_anomaly():
        y = x * x
        z = (x - 2.0) * 1.0
    x.numpy()[0] = 5
    with pytest.raises(GraphError, match="written to after `multiply`"):
        y.backward()
    with pytest.raises(GraphError, match="NaN"):
        z.backward([np.nan])


def test_denominators_travel_with_losses():
    """A loss keeps what it was divided by through arithmetic; means over different counts make it NaN."""
    loss, other = leaf(1.0) * 1, leaf(1.0) * 1
    loss.denominator, other.denominator = 8.0, 8.0
    assert (loss * 0.5 + other - 3).denominator == 8.0
    assert leaf(1.0).denominator is None
    other.denominator = 9.0
    assert np.isnan((loss + other).denominator)


def test_gradients_are_written_into_buffers():
    """A parameter with a buffer gets its gradient there, with or without an operation's help."""
    for build in (lambda x, w: (x @ w).sum(), lambda x, w: (w * 2).sum() + w.sum()):
        w = autograd.Parameter(np.ones((3, 2)))
        w._buffer = np.full((3, 2), 7.0)
        x = np.arange(6.0).reshape(2, 3)
        build(x, w).backward()
        assert w.grad is w._buffer
        alone = autograd.Parameter(np.ones((3, 2)))
        build(x, alone).backward()
        assert (w.grad == alone.grad).all()


def test_one_backward_cannot_serve_two_ways_of_accumulating():
    """Owners that want different factors for the seed are refused."""

    class Owner:
        def __init__(self, order, factor):
            self.order, self.factor, self.ended = order, factor, 0

        def begin_backward(self, weight):
            return self.factor

        def end_backward(self):
            self.ended += 1

    a, b = autograd.Parameter([1.0]), autograd.Parameter([2.0])
    a._owner, b._owner = Owner(1, 2.0), Owner(0, 2.0)
    (a * b).backward()
    assert a.grad.tolist() == [4]
    assert a._owner.ended == b._owner.ended == 1
    b._owner.factor = 3.0
    with pytest.raises(GraphError, match="several synchronizers"):
        (a * b).backward()


def test_gradcheck_finds_wrong_gradients():
    """A wrong gradient is shown, analytic above numeric, with its place."""

    @distdl.op
    def wrong(x):
        return x * x, lambda dy: dy * 3 * x

    x = leaf(1.0, 2.0)
    with pytest.raises(GraphError, match=r"inputs\[0\]\[\d\] is wrong\nanalytic: .*\nnumeric: "):
        distdl.gradcheck(wrong, [x])
    assert not distdl.gradcheck(wrong, [x], raise_exception=False)
    assert distdl.gradcheck(lambda x, y: x * 2, [x, leaf(1.0)])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [([distdl.tensor([1.0], requires_grad=True)], "must be float64"), ([distdl.tensor([1.0])], "requires a gradient")],
)
def test_gradcheck_needs_float64_and_gradients(inputs, message):
    """Finite differences in float32 would find errors where there are none."""
    with pytest.raises((ValueError, TypeError), match=message):
        distdl.gradcheck(lambda x: x, inputs)
