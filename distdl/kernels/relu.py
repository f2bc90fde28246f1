"""ReLU, and the choice that leaky ReLU and gradients make."""

import numpy as np

from .registry import kernel


def _relu_forward(x: np.ndarray, y: np.ndarray) -> None:
    np.maximum(x, 0, out=y)


@kernel(reference=_relu_forward)
def relu_forward(x, y):  # type: ignore[no-untyped-def]
    """y = max(x, 0), NaN where x is NaN; flat arrays."""
    zero = x.dtype.type(0)
    for i in range(x.size):
        value = x[i]
        y[i] = zero if value <= zero else value


def _relu_backward(y: np.ndarray, dy: np.ndarray, slope: float, dx: np.ndarray) -> None:
    dx[...] = np.where(y > 0, dy, dy * dy.dtype.type(slope))


@kernel(reference=_relu_backward)
def relu_backward(y, dy, slope, dx):  # type: ignore[no-untyped-def]
    """dx = dy where y > 0, else slope * dy; flat arrays."""
    below = dy.dtype.type(slope)
    for i in range(y.size):
        dx[i] = dy[i] if y[i] > 0 else dy[i] * below
