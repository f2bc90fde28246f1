"""Activations, element by element."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import checks, memory
from ..kernels import gates
from ..kernels import gelu as gelu_kernels
from ..kernels.registry import dense
from ..kernels.relu import relu_backward, relu_backward_vectors, relu_forward, relu_vectors
from .checking import check_float
from .flat import share_flat
from .registry import op


@op
def relu(x: np.ndarray) -> Any:
    """max(x, 0); the gradient at 0 is 0."""
    check_float("x", x)
    y = memory.empty(x.shape, x.dtype)
    is_single = x.dtype == np.float32
    share_flat(relu_vectors if is_single else relu_forward, dense(x), y)

    def backward(dy: np.ndarray) -> np.ndarray:
        if not is_single:
            return _select(y, dy, 0.0)
        dx = memory.empty(y.shape, y.dtype)
        share_flat(relu_backward_vectors, dense(y), dense(dy), dx)
        return dx

    # Who walks the graph may hand this to the operation before instead of calling.
    backward.mask = y  # type: ignore[attr-defined]
    return y, backward


@op
def leaky_relu(x: np.ndarray, *, negative_slope: float = 0.01) -> Any:
    """x where x > 0, else negative_slope * x."""
    check_float("x", x)
    return _select(x, x, negative_slope), lambda dy: _select(x, dy, negative_slope)


def _select(x: np.ndarray, dy: np.ndarray, slope: float) -> np.ndarray:
    """Return dy where x > 0, else slope * dy; NumPy's `where` takes ten times as long."""
    dx = memory.empty(x.shape, x.dtype)
    share_flat(relu_backward, dense(x), dense(dy), dx, options=(float(slope),))
    return dx


@op
def elu(x: np.ndarray, *, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha * (exp(x) - 1) (D. Clevert et al., ICLR 2016)."""
    check_float("x", x)
    scale = x.dtype.type(alpha)

    def backward(dy: np.ndarray) -> np.ndarray:
        # exp(0) = 1 where x > 0: a slope of alpha, which lacks 1 - alpha.
        slope = scale * np.exp(np.minimum(x, 0)) + (1 - scale) * (x > 0)
        return np.asarray(dy * slope)

    return np.maximum(x, 0) + scale * np.expm1(np.minimum(x, 0)), backward


def _sigmoid(x: np.ndarray) -> np.ndarray:
    if x.dtype == np.float32:
        y = memory.empty(x.shape, x.dtype)
        share_flat(gates.sigmoid, dense(x), y)
        return y
    # Below, exp would overflow, and the result is as good as 0.
    return np.asarray(1 / (1 + np.exp(-np.maximum(x, -700))))


@op
def sigmoid(x: np.ndarray) -> Any:
    """1 / (1 + exp(-x))."""
    check_float("x", x)
    y = _sigmoid(x)

    def backward(dy: np.ndarray) -> np.ndarray:
        dx: np.ndarray = np.subtract(1, y, out=memory.empty(y.shape, y.dtype))
        dx *= y
        dx *= dy
        return dx

    return y, backward


@op
def tanh(x: np.ndarray) -> Any:
    """The hyperbolic tangent."""
    check_float("x", x)
    y = np.tanh(x, out=memory.empty(x.shape, x.dtype))

    def backward(dy: np.ndarray) -> np.ndarray:
        dx: np.ndarray = np.multiply(y, y, out=memory.empty(y.shape, y.dtype))
        np.subtract(1, dx, out=dx)
        dx *= dy
        return dx

    return y, backward


@op
def silu(x: np.ndarray) -> Any:
    """x * sigmoid(x) (S. Elfwing et al., 2017)."""
    check_float("x", x)
    if x.dtype == np.float32:
        return _with_slope(gates.silu, x)
    s = _sigmoid(x)
    return x * s, lambda dy: dy * (s * (1 + x * (1 - s)))


@op
def softplus(x: np.ndarray, *, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + exp(beta x)) / beta, and x itself where beta x > threshold."""
    check_float("x", x)
    scaled = x * x.dtype.type(beta)
    linear = scaled > threshold
    y = np.asarray((np.maximum(scaled, 0) + np.log1p(np.exp(-np.abs(scaled)))) / x.dtype.type(beta))
    np.copyto(y, x, where=linear)

    def backward(dy: np.ndarray) -> np.ndarray:
        slope = _sigmoid(scaled)
        np.copyto(slope, 1, where=linear)
        return np.asarray(dy * slope)

    return y, backward


@op
def gelu(x: np.ndarray, *, approximate: str = "none") -> Any:
    """x P(x), P the normal distribution (D. Hendrycks, K. Gimpel, 2016).

    Args:
        x: of any shape.
        approximate: "none", or "tanh": P(x) = (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
    """
    check_float("x", x)
    checks.one_of("approximate", approximate, ("none", "tanh"))
    is_single = x.dtype == np.float32
    if approximate == "none":
        return _with_slope(gates.gelu_vectors if is_single else gelu_kernels.gelu, x)
    return _with_slope(gates.tanh_gelu, x) if is_single else _tanh_gelu(x)


def _with_slope(function: Callable[..., None], x: np.ndarray) -> Any:
    """Return result and gradient by a kernel that gives the result and its derivative."""
    y, slope = memory.empty(x.shape, x.dtype), memory.empty(x.shape, x.dtype)
    share_flat(function, dense(x), y, slope)
    return y, lambda dy: np.multiply(dy, slope, out=memory.empty(slope.shape, slope.dtype))


def _tanh_gelu(x: np.ndarray) -> Any:
    scale = math.sqrt(2 / math.pi)
    square = x * x
    t = np.tanh(scale * x * (1 + 0.044715 * square))

    def backward(dy: np.ndarray) -> np.ndarray:
        inner = scale * (1 + 3 * 0.044715 * square)
        return np.asarray(dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner))

    return 0.5 * x * (1 + t), backward
