"""Operations that users write."""

import functools

import numpy as np
import pytest

import distdl
from distdl.core.errors import GraphError
from tests.autograd.leaf import leaf


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


_kept_by_module = np.ones(2)


def test_arrays_kept_elsewhere_are_copied():
    """Where a gradient function keeps its array, in a list, a default, or a module, .grad is not that array."""
    held = [np.ones(2)]
    for gradient, kept in (
        (lambda dy: _kept_by_module, _kept_by_module),
        (lambda dy: held[0], held[0]),
        (lambda dy, array=held[0]: array, held[0]),
    ):

        @distdl.op
        def keeps(x, gradient=gradient):
            return x * 1, gradient

        x = leaf(1.0, 2.0)
        keeps(x).sum().backward()
        x.grad += 1
        assert x.grad.tolist() == [2, 2]
        assert kept.tolist() == [1, 1]


class Five:
    def gradient(self, dy):
        return dy * 5

    def gradient_if_wanted(self, dy, wanted):
        return dy * 5 if wanted[0] else None

    __call__ = gradient


FORMS = {
    "default": lambda dy, k=5: dy * k,
    "wanted with a default": lambda dy, wanted=(): dy * 5 * len(wanted),
    "wanted and a default": lambda dy, wanted, k=5: dy * k * len(wanted),
    "keyword": lambda dy, *, k=5: dy * k,
    "partial": functools.partial(lambda k, dy: dy * k, 5),
    "method": Five().gradient,
    "method, wanted": Five().gradient_if_wanted,
    "object": Five(),
    "list": lambda dy: (dy * 5).tolist(),
}


@pytest.mark.parametrize("form", sorted(FORMS))
def test_forms_of_gradient_functions(form):
    """Any callable will do; a default is never mistaken for `wanted`."""

    @distdl.op
    def five(x):
        return x * 5, FORMS[form]

    x = leaf(1.0)
    five(x).backward()
    assert x.grad.tolist() == [5]


@pytest.mark.parametrize("result", [np.ones((2, 3)), (np.ones(1),), [np.ones(1), None], (np.ones(1), None)])
def test_operations_that_forget_their_gradient_are_named(result):
    """A result alone is refused, even an array of two rows, which would unpack."""

    @distdl.op
    def forgetful(x):
        return result

    with pytest.raises(GraphError, match="`forgetful` must return its result and a function"):
        forgetful(leaf(1.0))
