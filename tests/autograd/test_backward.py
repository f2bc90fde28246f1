"""Backward: what ends up in .grad, what is freed, and what is refused."""

import gc
import threading
import weakref

import numpy as np
import pytest

import distdl
from distdl import autograd
from distdl.core.errors import GraphError
from tests.autograd.leaf import leaf


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
        is_watching = False

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


def test_broadcast_operands_get_gradients_of_their_own_shape():
    """What broadcasting repeated is summed, whether the axis was added or stretched."""
    a, b, c = leaf(*np.ones((2, 1, 3))), leaf(*np.ones((4, 1))), leaf(2.0)
    ((a + b) * c).sum().backward()
    assert (a.grad == np.full((2, 1, 3), 8.0)).all()
    assert (b.grad == np.full((4, 1), 12.0)).all()
    assert c.grad.tolist() == [48]


def test_indices_that_repeat_add_up():
    """A value that an index picks twice gets both gradients, for lists, arrays, tensors and pairs of arrays."""
    for index in ([0, 0, 2], np.array([0, 0, 2]), distdl.tensor([0, 0, 2]), (np.array([0, 0, 2]), ...)):
        x = leaf(1.0, 2.0, 3.0)
        (x[index] * np.array([1.0, 2.0, 4.0])).sum().backward()
        assert x.grad.tolist() == [3, 0, 4]


def test_axes_may_be_numpy_integers():
    """Reductions take NumPy's integers as axes, as NumPy does."""
    for name in ("sum", "mean", "var", "max", "min", "prod"):
        x = leaf([1.0, 2.0], [3.0, 5.0])
        plain = leaf([1.0, 2.0], [3.0, 5.0])
        getattr(x, name)(axis=np.int64(-1)).sum().backward()
        getattr(plain, name)(axis=-1).sum().backward()
        assert (x.grad == plain.grad).all()


@pytest.mark.parametrize("frozen", [False, True])
def test_a_buffer_survives_a_parameter_used_twice_by_one_operation(frozen):
    """w @ w with a gradient buffer has the gradient that it has without one."""
    values = np.array([[1.0, 2.0], [3.0, 4.0]])
    w, alone, factor = autograd.Parameter(values), autograd.Parameter(values), autograd.Parameter(values)
    factor.requires_grad = not frozen
    w._buffer = np.full((2, 2), np.nan)
    (w @ w @ factor).sum().backward()
    (alone @ alone @ factor).sum().backward()
    assert w.grad is w._buffer
    assert (w.grad == alone.grad).all()
    assert (factor.grad is None) == frozen


def test_gradients_on_their_way_keep_the_type_of_their_target():
    """An operation that promotes its gradient to float64 does not promote those behind it."""

    @distdl.op
    def promotes(x):
        return x * 1, lambda dy: dy * np.float64(2)

    x, seen = leaf(1.0, dtype=np.float32), []
    y = x * 1
    y.register_hook(lambda gradient: seen.append(gradient.dtype))
    promotes(y).sum().backward()
    assert seen == [np.float32]
    assert x.grad.dtype == np.float32


def test_results_without_gradients_are_not_recorded():
    """Integers have no gradient; a tensor of them says so."""
    y = leaf(1.5).astype(int)
    assert not y.requires_grad
    assert y.is_leaf


def test_graphs_that_are_dropped_leave_nothing_behind():
    """200,000 operations go without recursion, and without the garbage collector, retained gradients or not."""
    x = leaf(1.0)
    gc.disable()
    try:
        y = middle = x * 2
        middle.retain_grad()
        for _ in range(200_000):
            y = y + 1.0
        seen = weakref.ref(middle)
        del y, middle
        assert seen() is None
    finally:
        gc.enable()


def test_functions_without_recording_may_run_in_several_threads():
    """Two calls of a function under @no_grad() that overlap leave each thread's switch as it was."""
    entered, left = threading.Event(), threading.Event()
    switches = []

    @distdl.no_grad()
    def wait(mine, other):
        mine.set()
        assert other.wait(10)

    def first():
        wait(entered, second_inside)
        switches.append(autograd.is_grad_enabled())
        left.set()

    def second():
        with distdl.no_grad():
            assert entered.wait(10)
            wait(second_inside, left)

    second_inside = threading.Event()
    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert switches == [True]


def test_sums_of_gradients_leave_what_others_hold():
    """A gradient that two branches share is added to in place only once nobody else holds it, nor a view of it."""
    held = []

    @distdl.op
    def keeping(x):
        def backward(dy):
            held.append(dy[:1])
            held.append(dy[:1].copy())
            return dy * 2

        return x * 1, backward

    @distdl.op
    def plain(x):
        return x * 1, lambda dy: dy * 2

    for branch, kept in ((plain, 0), (keeping, 6)):
        x = leaf(1.0, 2.0)
        start = np.array([1.0, 3.0], np.float32)
        y = x * 1.0
        (y + branch(branch(branch(y)))).backward(start)
        np.testing.assert_array_equal(x.grad, [9, 27])
        np.testing.assert_array_equal(start, [1, 3])
        assert len(held) == kept
        assert all(view == copy for view, copy in zip(held[::2], held[1::2], strict=True))
