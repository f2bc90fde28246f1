"""Tensors: what they hold, how they compute, and what they refuse."""

import copy

import numpy as np
import pytest

import distdl
from distdl import autograd
from distdl.core.errors import ArgumentError, ArgumentTypeError, GraphError


def leaf(values, dtype=np.float64):
    return distdl.tensor(np.array(values, dtype), requires_grad=True)


X = [[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]]

SAME_AS_NUMPY = {
    "+": lambda x: x + 2 + x,
    "r+": lambda x: 2 + x,
    "-": lambda x: x - 2,
    "r-": lambda x: 2 - x,
    "*": lambda x: x * np.array([1.0, 2.0, 3.0]),
    "r*": lambda x: np.array([1.0, 2.0, 3.0]) * x,
    "/": lambda x: x / 2,
    "r/": lambda x: 2 / x,
    "**": lambda x: x**2,
    "r**": lambda x: 2**x,
    "@": lambda x: x @ x.T,
    "r@": lambda x: np.ones((2, 2)) @ x,
    "-x": lambda x: -x,
    "abs": lambda x: abs(x),
    "sum": lambda x: x.sum(axis=0),
    "mean": lambda x: x.mean(axis=1, keepdims=True),
    "var": lambda x: x.var(axis=0),
    "max": lambda x: x.max(axis=0),
    "min": lambda x: x.min(),
    "prod": lambda x: x.prod(axis=1),
    "argmax": lambda x: x.argmax(axis=1),
    "reshape": lambda x: x.reshape(3, -1),
    "reshape tuple": lambda x: x.reshape((6,)),
    "flatten": lambda x: x.flatten(),
    "transpose": lambda x: x.transpose(1, 0),
    "transpose tuple": lambda x: x.transpose((1, 0)),
    "T": lambda x: x.T,
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "squeeze": lambda x: x.reshape(1, 6, 1).squeeze(),
    "clip": lambda x: x.clip(-1, 2),
    "index": lambda x: x[1, ::-1],
    "list index": lambda x: x[[0, 0, 1]],
    "mask": lambda x: x[x > 0],
    "<": lambda x: x < 1,
    "<=": lambda x: x <= 1,
    ">=": lambda x: x >= 1,
    "==": lambda x: x == 1,
    "!=": lambda x: x != 1,
    "copy": lambda x: x.copy(),
}

FUNCTIONS = {
    "exp": np.exp,
    "sqrt": np.sqrt,
    "log": np.log,
    "abs": np.abs,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("name", sorted(SAME_AS_NUMPY))
def test_operators_and_methods_are_numpys(name):
    """The same expression of a tensor and of an array has the same value and dtype."""
    function = SAME_AS_NUMPY[name]
    for dtype in (np.float32, np.float64):
        array = np.array(X, dtype)
        got, expected = function(distdl.tensor(array.copy())), np.asarray(function(array))
        values = got.data if isinstance(got, distdl.Tensor) else got
        np.testing.assert_allclose(values, expected, rtol=1e-6)
        assert values.dtype == (expected.dtype if expected.dtype.kind != "f" else dtype)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions_are_numpys(name):
    """Methods without an operator agree with NumPy's functions."""
    x = np.array([0.5, 1.0, 2.0])
    np.testing.assert_allclose(getattr(distdl.tensor(x), name)().data, FUNCTIONS[name](x))


def test_joining_functions_are_numpys():
    """concatenate, stack, where, maximum, minimum, pad, zeros and ones agree with NumPy."""
    a, b = np.array([1.0, 5.0]), np.array([4.0, 2.0])
    x, y = distdl.tensor(a), distdl.tensor(b)
    assert distdl.concatenate([x, y]).data.tolist() == [1, 5, 4, 2]
    assert distdl.stack([x, b], axis=1).data.tolist() == [[1, 4], [5, 2]]
    assert distdl.where(x > 2, x, 0.0).data.tolist() == [0, 5]
    assert distdl.where(np.array([True, False]), 1.0, b).data.tolist() == [1, 2]
    assert distdl.maximum(x, y).data.tolist() == [4, 5]
    assert distdl.minimum(x, 3).data.tolist() == [1, 3]
    assert distdl.pad(x, [(1, 0)]).data.tolist() == [0, 1, 5]
    assert distdl.zeros(2, 3).shape == (2, 3)
    assert distdl.ones(2, dtype=np.float64).dtype == np.float64
    assert x.pow(2).data.tolist() == [1, 25]
    assert x.expand_dims(0).shape == (1, 2)
    assert x.broadcast_to(3, 2).shape == x.broadcast_to((3, 2)).shape == (3, 2)


def test_a_tensor_shares_its_array():
    """tensor(array) does not copy; data and numpy() are the array itself; detach() shares it too."""
    array = np.zeros(3)
    x = distdl.tensor(array)
    x.numpy()[0] = 5
    x.detach().data[1] = 6
    assert array.tolist() == [5, 6, 0]
    assert np.asarray(x) is not None
    assert x.is_leaf
    assert x.size == 3
    assert x.ndim == 1


def test_dtypes_of_what_is_given():
    """Python floats become float32, arrays keep their dtype, and dtype= casts."""
    assert distdl.tensor([1.0, 2.0]).dtype == np.float32
    assert distdl.tensor(1).dtype == np.int64
    assert distdl.tensor(np.zeros(2)).dtype == np.float64
    assert distdl.tensor(distdl.tensor([1.0]), dtype="float64").dtype == np.float64


@pytest.mark.parametrize("other", [2, 2.5, True, np.float64(2.5), np.ones(2), np.ones(2, int), distdl.tensor([1, 2])])
def test_float32_is_never_promoted(other):
    """A float32 tensor with numbers, float64 arrays, or integer tensors stays float32."""
    x = distdl.tensor(np.ones(2, np.float32))
    for y in (x + other, other * x, x / other, x - other, distdl.maximum(other, x)):
        assert y.dtype == np.float32


def test_tensors_of_two_float_types_do_not_mix():
    """float32 with float64 is an error that says to cast."""
    with pytest.raises(ArgumentTypeError, match=r"float32 and float64.*astype"):
        distdl.tensor(np.ones(2, np.float32)) + distdl.tensor(np.ones(2))
    with pytest.raises(ArgumentTypeError, match="must have one dtype"):
        distdl.concatenate([distdl.tensor(np.ones(2, np.float32)), distdl.tensor(np.ones(2))])


def test_conversions():
    """One value converts to Python numbers, several do not; iteration and len() go over the first axis."""
    x = distdl.tensor([3.0])
    assert float(x) == 3.0
    assert int(x) == 3
    assert x.item() == 3.0
    assert bool(x)
    assert [row.data.tolist() for row in distdl.tensor(X)] == X
    assert len(distdl.tensor(X)) == 2
    assert "requires_grad=True" in repr(leaf([1.0]))
    assert "float64" in repr(leaf([1.0]))
    assert repr(autograd.Parameter([1.0])).startswith("Parameter")
    with pytest.raises(ArgumentError, match="one value"):
        distdl.tensor(X).item()
    with pytest.raises(ArgumentTypeError, match="no axis"):
        iter(distdl.tensor(1.0))


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda: distdl.tensor("text"), ArgumentTypeError, "`values`"),
        (lambda: distdl.tensor([1, 2], requires_grad=True), ArgumentTypeError, "`requires_grad`"),
        (lambda: distdl.tensor([1, 2]).requires_grad_(), ArgumentTypeError, "`requires_grad`"),
        (lambda: distdl.tensor([1.0]) + "a", ArgumentTypeError, "`operand`"),
        (lambda: autograd.Parameter([1, 2]), ArgumentTypeError, "`values`"),
        (lambda: distdl.concatenate([]), ArgumentError, "`tensors`"),
        (lambda: distdl.where([1, 0], 1.0, 2.0), ArgumentTypeError, "`condition`"),
        (lambda: np.asarray(leaf([1.0])), ArgumentTypeError, "requires a gradient"),
        (lambda: setattr(leaf([1.0]), "data", np.zeros(2)), ArgumentError, "`data`"),
        (lambda: (leaf([1.0]) * 2).requires_grad_(False), GraphError, "leaves only"),
        (lambda: distdl.tensor([1.0]).backward(), GraphError, "does not require"),
        (lambda: distdl.tensor([1.0]).register_hook(print), GraphError, "does not require"),
        (lambda: leaf([1.0, 2.0]).backward(), GraphError, "needs `gradient`"),
        (lambda: leaf([1.0, 2.0]).backward([1.0]), ArgumentError, "`gradient`"),
        (lambda: leaf([1.0]).backward(weight=-1), ArgumentError, "`weight`"),
        (lambda: leaf([1.0]).__setitem__(0, 1.0), GraphError, "where"),
        (lambda: leaf([1.0]).__iadd__(1.0), GraphError, "no_grad"),
        (lambda: setattr(distdl.tensor([1, 2]), "requires_grad", True), ArgumentTypeError, "`requires_grad`"),
        (lambda: setattr(leaf([1.0]) * 2, "requires_grad", False), GraphError, "leaves only"),
        (lambda: distdl.pad(leaf([1.0]), [(1, 0), (0, 1)]), ArgumentError, "`widths`"),
        (lambda: copy.deepcopy(leaf([1.0]) * 2), GraphError, "only leaves"),
    ],
)
def test_misuse_is_refused(use, error, message):
    """What cannot be meant raises, naming argument and rule."""
    with pytest.raises(error, match=message):
        use()


def test_changes_in_place_without_recording():
    """Under no_grad(), operators with = change the array itself."""
    x = leaf([2.0, 4.0])
    array = x.data
    with distdl.no_grad():
        x += 1
        x -= [1.0, 1.0]
        x *= 3
        x /= 2
        x[0] = 7
    assert array is x.data
    assert array.tolist() == [7, 6]


def test_changes_in_place_while_recording_make_new_tensors():
    """total += loss is recorded, and leaves the old value alone."""
    x = leaf([2.0])
    total = distdl.tensor(np.zeros(1))
    before = total
    for operation in (x * 1, x * 2):
        total += operation
    total *= 2
    total -= x
    total /= 2
    total.backward()
    assert x.grad.tolist() == [2.5]
    assert before.data.tolist() == [0]


def test_joining_takes_the_type_of_the_tensors():
    """Arrays and lists beside tensors take their type, and functions of two numbers make tensors."""
    x = distdl.tensor(np.ones(2, np.float32))
    for other in ([1.0, 2.0], np.ones(2), [1, 2]):
        assert distdl.stack([other, x]).dtype == np.float32
        assert distdl.concatenate([distdl.tensor(np.ones(2)), other]).dtype == np.float64
    assert distdl.maximum(1.0, 2.0).item() == 2.0
    assert distdl.minimum([1.0, 5.0], 3.0).data.tolist() == [1, 3]


def test_deep_copies_stand_alone():
    """A copy of a leaf has values, gradient and name of its own, and neither hooks nor a gradient buffer."""
    x = autograd.Parameter([1.0, 2.0])
    x.name, x._buffer, x._owner = "weight", np.zeros(2, np.float32), object()
    x.register_hook(lambda gradient: gradient * 100)
    x.grad = x._buffer
    first, second = copy.deepcopy([x, x])
    assert first is second
    assert first.name == "weight"
    assert first._owner is first._buffer is None
    assert first.grad is not x.grad
    first.data[0] = first.grad[0] = 9.0
    assert x.data[0] == 1.0
    assert x.grad[0] == 0.0
    first.grad = None
    (first * 1).sum().backward()
    assert first.grad.tolist() == [1, 1]
    assert not copy.deepcopy(distdl.tensor([1.0])).requires_grad
