"""GELU of float64: the error function, which NumPy lacks, and the slope in one pass; `gates.py` has float32."""

import math

import numpy as np

from .registry import kernel

_ROOT_HALF = math.sqrt(0.5)
_DENSITY = 1 / math.sqrt(2 * math.pi)


def _gelu(x: np.ndarray, y: np.ndarray, slope: np.ndarray) -> None:
    from scipy.special import erf

    probability = 0.5 * (1 + erf(x * _ROOT_HALF))
    y[...] = x * probability
    slope[...] = probability + x * np.exp(-0.5 * x * x) * _DENSITY


@kernel(reference=_gelu, types=("float64",))
def gelu(x, y, slope):  # type: ignore[no-untyped-def]
    """y = x P(x), P the normal distribution, and its derivative; flat arrays."""
    real = x.dtype.type
    half, root_half, density = real(0.5), real(_ROOT_HALF), real(_DENSITY)
    for i in range(x.size):
        value = x[i]
        probability = half * (real(1) + math.erf(value * root_half))
        y[i] = value * probability
        slope[i] = probability + value * math.exp(-half * value * value) * density
