"""ReLU, and the choice that leaky ReLU and gradients make."""

import numpy as np

from .registry import kernel
from .simd import LANES, at_least, load, load_first, store_first, where_positive, zero
from .streaming import finish_writing, is_streamed, write


def _relu_forward(x: np.ndarray, y: np.ndarray) -> None:
    np.maximum(x, 0, out=y)


@kernel(reference=_relu_forward, types=("float64",))
def relu_forward(x, y):  # type: ignore[no-untyped-def]
    """y = max(x, 0), NaN where x is NaN; flat arrays."""
    zero = x.dtype.type(0)
    for i in range(x.size):
        value = x[i]
        y[i] = zero if value <= zero else value


@kernel(reference=_relu_forward, types=("float32",))
def relu_vectors(x, y):  # type: ignore[no-untyped-def]
    """`relu_forward` on vectors; -0.0 stays."""
    rest = y.size % LANES
    whole = y.size - rest
    streamed, floor = is_streamed(y), zero()
    for i in range(0, whole, LANES):
        write(y, i, at_least(load(x, i), floor), LANES, streamed)
    store_first(y, whole, at_least(load_first(x, whole, rest), floor), rest)
    finish_writing(streamed)


def _relu_backward(slope: float, y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    dx[...] = np.where(y > 0, dy, dy * dy.dtype.type(slope) if slope else 0)


@kernel(reference=_relu_backward)
def relu_backward(slope, y, dy, dx):  # type: ignore[no-untyped-def]
    """dx = dy where y > 0, else slope * dy, and 0 for a slope of 0 whatever dy is; flat arrays."""
    below, zero_below = dy.dtype.type(slope), slope == 0
    for i in range(y.size):
        dx[i] = dy[i] if y[i] > 0 else dy.dtype.type(0) if zero_below else dy[i] * below


def _relu_backward_vectors(y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    dx[...] = np.where(y > 0, dy, 0)


@kernel(reference=_relu_backward_vectors, types=("float32",))
def relu_backward_vectors(y, dy, dx):  # type: ignore[no-untyped-def]
    """dx = dy where y > 0, else 0, on vectors; flat arrays."""
    rest = y.size % LANES
    whole = y.size - rest
    streamed = is_streamed(dx)
    for i in range(0, whole, LANES):
        write(dx, i, where_positive(load(y, i), load(dy, i)), LANES, streamed)
    store_first(dx, whole, where_positive(load_first(y, whole, rest), load_first(dy, whole, rest)), rest)
    finish_writing(streamed)
