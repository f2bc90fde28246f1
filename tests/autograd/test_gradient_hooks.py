"""Hooks of gradients, and gradients that are retained."""

import numpy as np
import pytest

from distdl.core.errors import GraphError
from tests.autograd.leaf import leaf


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


def test_retained_gradients_are_what_hooks_leave():
    """Asked for twice it comes once, after hooks whenever they were added, and adds up over backwards."""
    x = leaf(1.0)
    y = x * 2
    y.retain_grad()
    y.retain_grad()
    y.register_hook(lambda gradient: gradient * 3)
    (y * 1).backward(retain_graph=True)
    assert y.grad.tolist() == x.grad[:1] / 2 == [3]
    (y * 1).backward()
    assert y.grad.tolist() == [6]


def test_hooks_cannot_write_to_what_others_hold():
    """A hook gets a read-only array: the caller's gradient, and that of other operands, may be the same."""
    x, given = leaf(1.0), np.ones(1)
    a, b = x * 1, x * 1

    def scale(gradient):
        gradient *= 10

    b.register_hook(scale)
    with pytest.raises(ValueError, match="read-only"):
        (a + b).backward(given)
    assert given.tolist() == [1]


def test_a_hook_may_keep_and_return_what_it_sees():
    """The array that a hook returns, the same or one of its own, is not what .grad becomes."""
    own, seen = np.array([7.0]), []
    x, y = leaf(1.0), leaf(1.0)
    x.register_hook(lambda gradient: own)
    y.register_hook(lambda gradient: seen.append(gradient) or gradient)
    (x * y).backward()
    x.grad += 1
    y.grad += 1
    assert own.tolist() == [7]
    assert seen[0].tolist() == [1]
    assert y.grad.tolist() == [2]
