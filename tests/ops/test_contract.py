"""What the tape relies on holds for every operation: `wanted`, buffers, and hands off other people's arrays."""

import weakref

import numpy as np
import pytest

from distdl.autograd import Parameter, Tensor, apply
from distdl.ops.registry import OPS
from tests.ops.test_registry import ALL, is_float


def gradients(name, case, chosen, make):
    """Return the gradients of the chosen arguments, which `make` turns into leaves."""
    leaves = {i: make(case.args[i]) for i in chosen}
    y = apply(OPS[name], *(leaves.get(i, arg) for i, arg in enumerate(case.args)), **case.options)
    dy = np.cos(np.arange(y.size, dtype=y.dtype)).reshape(y.shape)
    dy.flags.writeable = False
    y.backward(dy)
    return {i: leaf.grad for i, leaf in leaves.items()}


def plain(array):
    return Tensor(array.copy(), requires_grad=True)


def with_buffer(array):
    parameter = Parameter(array)
    parameter._buffer = np.full(array.shape, np.nan)
    return parameter


@pytest.mark.parametrize(("name", "case"), ALL)
def test_gradients_do_not_depend_on_what_else_is_wanted(name, case):
    """An argument alone has the gradient that it has beside others, written to a buffer or to a new array."""
    floats = [i for i, arg in enumerate(case.args) if is_float(arg)]
    together = gradients(name, case, floats, plain)
    buffered = gradients(name, case, floats, with_buffer)
    for i in floats:
        alone = gradients(name, case, [i], plain)[i]
        if together[i] is None:
            assert alone is None
            continue
        np.testing.assert_array_equal(alone, together[i])
        np.testing.assert_array_equal(buffered[i], together[i])


@pytest.mark.parametrize(("name", "case"), ALL)
def test_inputs_are_only_read(name, case):
    """Read-only inputs are enough, forward and back, and nothing that comes out is their memory."""
    args = [np.array(arg) if is_float(arg) else arg for arg in case.args]
    leaves = [Tensor(arg, requires_grad=True) if is_float(arg) else arg for arg in args]
    for arg in args:
        if isinstance(arg, np.ndarray):
            arg.flags.writeable = False
    y = apply(OPS[name], *leaves, **case.options)
    y.backward(np.ones(y.shape))
    found = [leaf.grad for leaf in leaves if isinstance(leaf, Tensor) and leaf.grad is not None]
    for i, gradient in enumerate(found):
        assert gradient.flags.writeable
        others = [arg for arg in args if isinstance(arg, np.ndarray)] + found[:i] + [y.data]
        assert not any(np.shares_memory(gradient, other) for other in others)


UNREAD = [param for param in ALL if not OPS[param.values[0]].reads_inputs]


@pytest.mark.parametrize(("name", "case"), UNREAD)
def test_what_no_gradient_reads_may_change(name, case):
    leaves = [plain(arg) if is_float(arg) else arg for arg in case.args]
    y = apply(OPS[name], *leaves, **case.options)
    dy = np.cos(np.arange(y.size, dtype=y.dtype)).reshape(y.shape)
    y.backward(dy, retain_graph=True)
    leaves = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    once = [leaf.grad.copy() for leaf in leaves]
    for tensor in (*leaves, y):
        if tensor.data.flags.writeable:
            tensor.data[...] = np.nan
    y.backward(dy)
    for leaf, gradient in zip(leaves, once, strict=True):
        np.testing.assert_array_equal(leaf.grad, gradient + gradient)


@pytest.mark.parametrize(("name", "case"), UNREAD)
def test_what_no_gradient_reads_is_not_kept(name, case):
    """Memory of inputs and result returns before backward()."""
    args = [np.array(arg) if is_float(arg) else arg for arg in case.args]
    y, backward = OPS[name](*args, **case.options)
    held = [weakref.ref(array) for array in (*args, y) if isinstance(array, np.ndarray) and array is not y.base]
    del args, y
    assert callable(backward)
    assert not any(reference() is not None for reference in held)


def test_variance_without_degrees_of_freedom():
    """One value less a correction of one gives NaN and a gradient of NaN, as NumPy does; no rows give no gradient."""
    one, none = Tensor(np.ones((1, 2)), requires_grad=True), Tensor(np.ones((0, 2)), requires_grad=True)
    with np.errstate(invalid="ignore"):
        one.var(axis=0, correction=1).sum().backward()
        with pytest.warns(RuntimeWarning, match="Mean of empty slice"):
            none.var(axis=0).sum().backward()
    assert np.isnan(one.grad).all()
    assert none.grad.shape == (0, 2)
