"""gradcheck finds wrong gradients."""

import numpy as np
import pytest

import distdl
from distdl.core.errors import ArgumentError, GraphError
from tests.autograd.leaf import leaf


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
    [
        ([distdl.tensor([1.0], requires_grad=True)], "must be float64"),
        ([distdl.tensor([1.0])], "requires a gradient"),
        (np.ones((3, 4)), r"of ndarray\) must hold a tensor that requires a gradient"),
    ],
)
def test_gradcheck_needs_float64_and_gradients(inputs, message):
    """Finite differences in float32 would find errors where there are none."""
    with pytest.raises((ValueError, TypeError), match=message):
        distdl.gradcheck(lambda x: x, inputs)


def test_gradcheck_wants_leaves():
    """Changing the values of a result would not change what it came from."""
    with pytest.raises(ArgumentError, match=r"`inputs\[0\]`.*must be a leaf"):
        distdl.gradcheck(lambda x: x * 2, [leaf(1.0) * 1])


def test_gradcheck_says_where():
    """One wrong value of one input is named by input and place; errors that cancel in the sum are found."""

    @distdl.op
    def swapped(x, y):
        def backward(dy):
            dy = dy.copy()
            dy[1, 0], dy[1, 2] = dy[1, 2], dy[1, 0]
            return np.zeros_like(dy), dy

        return x * 0 + y, backward

    with pytest.raises(GraphError, match=r"inputs\[1\]\[1, [02]\] is wrong"):
        distdl.gradcheck(swapped, [leaf([1.0] * 3, [1.0] * 3), leaf([1.0] * 3, [1.0] * 3)])
    assert not distdl.gradcheck(lambda x: _gradient(x, np.nan), leaf(1.0), raise_exception=False)


@distdl.op
def _gradient(x, value):
    return x * 1, lambda dy: (dy * value, None)
