"""GELU, SiLU and the logistic function of float32, on vectors; flat arrays.

The tail of the normal distribution is taken in the form of C. Hastings ("Approximations for Digital
Computers", 1955): exp(-x^2 / 2) times a polynomial in t = 1 / (1 + p x), for x >= 0. The polynomial was fitted by
linear programming to the least greatest relative error, 3e-8 for x up to 14.5, where float32 ends.
"""

import math

import numpy as np

from .gelu import _gelu
from .registry import inlined, kernel
from .simd import LANES, add, at_least, fill, fma, mul, sub
from .simd_math import choose, divide, exp
from .tiles import get, put

_ONE = np.float32(1)
_DENSITY = np.float32(1 / math.sqrt(2 * math.pi))
_P = np.float32(0.26)
_C1, _C2, _C3 = np.float32(0.103757061), np.float32(0.103050269), np.float32(0.102793664)
_C4, _C5, _C6 = np.float32(0.0519454032), np.float32(0.158804312), np.float32(-0.147855341)
_C7, _C8, _C9 = np.float32(0.248791009), np.float32(-0.151522473), np.float32(0.0302360822)


@inlined
def _tail(x, bell):  # type: ignore[no-untyped-def]
    """Return the probability of more than x >= 0 standard deviations; bell = exp(-x^2 / 2)."""
    t = divide(fill(_ONE), fma(x, fill(_P), fill(_ONE)))
    p = fma(fma(fill(_C9), t, fill(_C8)), t, fill(_C7))
    p = fma(fma(fma(p, t, fill(_C6)), t, fill(_C5)), t, fill(_C4))
    p = fma(fma(fma(p, t, fill(_C3)), t, fill(_C2)), t, fill(_C1))
    return mul(mul(p, t), bell)


@kernel(reference=_gelu, types=("float32",))
def gelu_vectors(x, y, slope):  # type: ignore[no-untyped-def]
    """y = x P(x), P the normal distribution, and its derivative."""
    for i in range(0, x.size, LANES):
        lanes = x.size - i
        value = get(x, i, lanes)
        negative = sub(fill(np.float32(0)), value)
        bell = exp(mul(mul(value, value), fill(np.float32(-0.5))))
        tail = _tail(at_least(value, negative), bell)
        probability = choose(value, sub(fill(_ONE), tail), tail)
        put(y, i, mul(value, probability), lanes)
        put(slope, i, fma(mul(value, fill(_DENSITY)), bell, probability), lanes)


@inlined
def _logistic(x):  # type: ignore[no-untyped-def]
    return divide(fill(_ONE), add(fill(_ONE), exp(sub(fill(np.float32(0)), x))))


def _sigmoid(x: np.ndarray, y: np.ndarray) -> None:
    # Below, exp would overflow, and the result is as good as 0.
    y[...] = 1 / (1 + np.exp(-np.maximum(x, -88)))


@kernel(reference=_sigmoid, types=("float32",))
def sigmoid(x, y):  # type: ignore[no-untyped-def]
    """y = 1 / (1 + exp(-x))."""
    for i in range(0, x.size, LANES):
        put(y, i, _logistic(get(x, i, x.size - i)), x.size - i)


def _silu(x: np.ndarray, y: np.ndarray, slope: np.ndarray) -> None:
    s = np.empty_like(x)
    _sigmoid(x, s)
    y[...] = x * s
    slope[...] = s * (1 + x * (1 - s))


@kernel(reference=_silu, types=("float32",))
def silu(x, y, slope):  # type: ignore[no-untyped-def]
    """y = x / (1 + exp(-x)), and its derivative."""
    for i in range(0, x.size, LANES):
        lanes = x.size - i
        value = get(x, i, lanes)
        s = _logistic(value)
        put(y, i, mul(value, s), lanes)
        put(slope, i, mul(s, fma(value, sub(fill(_ONE), s), fill(_ONE))), lanes)


def _tanh_gelu(x: np.ndarray, y: np.ndarray, slope: np.ndarray) -> None:
    scale = math.sqrt(2 / math.pi)
    t = np.tanh(scale * x * (1 + 0.044715 * x * x))
    y[...] = 0.5 * x * (1 + t)
    slope[...] = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * scale * (1 + 3 * 0.044715 * x * x)


# (1 + tanh(u)) / 2 = 1 / (1 + exp(-2 u)).
_SCALE = np.float32(2 * math.sqrt(2 / math.pi))
_CUBIC = np.float32(2 * math.sqrt(2 / math.pi) * 0.044715)
_CUBIC_SLOPE = np.float32(6 * math.sqrt(2 / math.pi) * 0.044715)


@kernel(reference=_tanh_gelu, types=("float32",))
def tanh_gelu(x, y, slope):  # type: ignore[no-untyped-def]
    """y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, and its derivative."""
    for i in range(0, x.size, LANES):
        lanes = x.size - i
        value = get(x, i, lanes)
        square = mul(value, value)
        s = _logistic(mul(value, fma(square, fill(_CUBIC), fill(_SCALE))))
        inner = mul(value, fma(square, fill(_CUBIC_SLOPE), fill(_SCALE)))
        put(y, i, mul(value, s), lanes)
        put(slope, i, mul(s, fma(inner, sub(fill(_ONE), s), fill(_ONE))), lanes)
