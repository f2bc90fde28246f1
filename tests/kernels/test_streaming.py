"""What is written past the caches is what would have been written plainly, to the bit."""

import numba
import numpy as np
import pytest

import distdl
from distdl.core import memory, threads
from distdl.kernels.add import add_vectors
from distdl.kernels.batch_norm import batch_scale
from distdl.kernels.compile import jit
from distdl.kernels.cpu import LIKE_XEON
from distdl.kernels.relu import relu_backward_vectors, relu_vectors
from distdl.kernels.simd import zero
from distdl.kernels.streaming import LEAST_BYTES, finish_writing, is_streamed, write

LARGE = LEAST_BYTES // 4 + 1001
"""Floats, somewhat more than are needed, and no whole number of vectors."""


@jit
def _answer(y, answer):
    answer[0] = is_streamed(y)


def streamed(y):
    answer = np.zeros(1)
    _answer(y, answer)
    return bool(answer[0])


def normal(size, seed):
    """Return an array from the pool, which begins where vectors can be written past the caches."""
    array = memory.empty((size,), np.float32)
    array[:] = np.random.default_rng(seed).standard_normal(size)
    return array


def assert_same_bits(found, expected):
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


@pytest.fixture(params=[0, 1], ids=["at a line", "beside a line"])
def arrays(request):
    """Two arrays, and one of NaN for results, which is streamed if it begins at a line."""
    a, b, y = (normal(LARGE + 1, seed)[request.param :] for seed in range(3))
    y.fill(np.nan)
    assert streamed(y) == (LIKE_XEON and request.param == 0)
    return a, b, y


def test_small_arrays_stay_in_the_caches():
    """Nothing is gained there, and the next operation wants them."""
    assert not streamed(normal(LEAST_BYTES // 4 - 1, 0))


def test_streaming_stores_are_compiled():
    """And the fence behind them; without AVX-512, neither."""

    @numba.njit  # not kept on disk, from where the code could not be read
    def write_zeros(y):
        streamed = is_streamed(y)
        write(y, 0, zero(), 16, streamed)
        finish_writing(streamed)

    write_zeros(normal(16, 0))
    (code,) = write_zeros.inspect_asm().values()
    assert ("vmovntps" in code) == ("sfence" in code) == LIKE_XEON


def test_sums(arrays):
    """As NumPy adds."""
    a, b, y = arrays
    add_vectors(a, b, y)
    assert_same_bits(y, a + b)


def test_relu(arrays):
    """As NumPy chooses; -0.0 and NaN stay."""
    a, _, y = arrays
    a[::5], a[::7] = -0.0, np.nan
    relu_vectors(a, y)
    assert_same_bits(y, np.where(a < 0, np.float32(0), a))


def test_the_gradient_of_relu(arrays):
    """As NumPy chooses; what was let through nowhere counts nowhere."""
    a, b, y = arrays
    b[::5], a[::7] = np.inf, np.nan
    relu_backward_vectors(a, b, y)
    assert_same_bits(y, np.where(a > 0, b, np.float32(0)))


@pytest.mark.parametrize("columns", [16, 48, 20])
def test_batch_norm(arrays, columns):
    """As of the same rows in small pieces."""
    x, y = (array[: array.size // columns * columns].reshape(-1, columns) for array in (arrays[0], arrays[2]))
    assert y.nbytes >= LEAST_BYTES
    table = [normal(columns, seed) for seed in range(3, 6)]
    batch_scale(x, *table, True, y)
    for start in range(0, len(x), 1000):
        piece = np.empty_like(y[start : start + 1000])
        batch_scale(x[start : start + 1000], *table, True, piece)
        assert_same_bits(y[start : start + 1000], piece)


@pytest.mark.parametrize("team", [1, 3])
@pytest.mark.parametrize("is_writable", [True, False])
def test_operations_on_large_arrays_give_the_same(team, is_writable, monkeypatch):
    """Sums of tensors, of which one may not be written to, and ReLU with its gradient; on threads, too."""
    a, b, dy = (normal(team * LARGE, seed) for seed in range(3))
    a.flags.writeable = is_writable
    x, y = distdl.tensor(a, requires_grad=True), distdl.tensor(b, requires_grad=True)
    monkeypatch.setattr(threads, "current", lambda: team)
    z = (x + y).relu()
    z.backward(dy)
    total = a + b
    assert_same_bits(z.numpy(), np.where(total < 0, np.float32(0), total))
    for leaf in (x, y):
        assert_same_bits(leaf.grad, np.where(total > 0, dy, np.float32(0)))
