"""What is written past the caches is what would have been written plainly, to the bit."""

import numpy as np
import pytest

import distdl
from distdl.core import memory
from distdl.kernels.add import add_vectors
from distdl.kernels.batch_norm import batch_scale
from distdl.kernels.compile import jit
from distdl.kernels.relu import relu_backward_vectors, relu_vectors
from distdl.kernels.streaming import is_streamed
from distdl.kernels.tiles import CPU_KIND

LARGE = (1 << 19) + 7
"""Floats, of 2 MiB and somewhat more."""


@jit
def _answer(y, answer):
    answer[0] = is_streamed(y)


def normal(size):
    """Return an array from the pool, which begins where vectors can be written past the caches."""
    array = memory.empty((size,), np.float32)
    array[:] = np.random.default_rng(size).standard_normal(size)
    return array


@pytest.fixture(params=[0, 1], ids=["at a line", "beside a line"])
def arrays(request):
    """Three arrays of which the last is to be written, and whether that may be streamed."""
    a, b, y = (normal(LARGE + 1)[request.param :] for _ in range(3))
    streamed = np.zeros(1)
    _answer(y, streamed)
    assert streamed[0] == (CPU_KIND == "avx512" and request.param == 0)
    return a, b, y


def test_small_arrays_stay_in_the_caches():
    """Nothing is gained there, and the next operation wants them."""
    streamed = np.ones(1)
    _answer(normal(1 << 14), streamed)
    assert streamed[0] == 0


def test_sums(arrays):
    """As NumPy adds."""
    a, b, y = arrays
    add_vectors(a, b, y)
    np.testing.assert_array_equal(y, a + b)


def test_relu_and_its_gradient(arrays):
    """As NumPy chooses."""
    a, b, y = arrays
    relu_vectors(a, y)
    np.testing.assert_array_equal(y, np.maximum(a, 0))
    relu_backward_vectors(a, b, y)
    np.testing.assert_array_equal(y, np.where(a > 0, b, 0))


@pytest.mark.parametrize("columns", [16, 48, 20])
def test_batch_norm(arrays, columns):
    """As of the same rows in small pieces."""
    x, y = (array[: array.size // columns * columns].reshape(-1, columns) for array in (arrays[0], arrays[2]))
    table = [normal(columns) for _ in range(3)]
    batch_scale(x, *table, True, y)
    for start in range(0, len(x), 1000):
        piece = np.empty_like(y[start : start + 1000])
        batch_scale(x[start : start + 1000], *table, True, piece)
        np.testing.assert_array_equal(y[start : start + 1000], piece)


def test_operations_on_large_arrays_give_the_same():
    """Sums of tensors, of which one may not be written to, and ReLU with its gradient."""
    a, b = normal(LARGE), normal(LARGE)
    a.flags.writeable = False
    x, y = distdl.tensor(a, requires_grad=True), distdl.tensor(b, requires_grad=True)
    z = (x + y).relu()
    np.testing.assert_array_equal(z.numpy(), np.maximum(a + b, 0))
    z.backward(b)
    for leaf in (x, y):
        np.testing.assert_array_equal(leaf.grad, np.where(a + b > 0, b, 0))
