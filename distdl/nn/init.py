"""Initial values of weights, drawn from the generator that `distdl.manual_seed` seeds.

Linear weights are (in, out), convolution weights (kh, kw, in // groups, out): the fan-in is the
product of all extents but the last, the fan-out the last times the kernel's area.
"""

import math
from typing import Any

from ..autograd import Tensor
from ..core import checks, random


def _fans(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise checks.bad_value(
            "tensor", f"shape {tensor.shape}", "needs two axes or more to have a fan-in and a fan-out"
        )
    area = math.prod(tensor.shape[:-2])
    return area * tensor.shape[-2], area * tensor.shape[-1]


def gain(nonlinearity: str, slope: float = 0.0) -> float:
    """Return the factor that keeps the variance through a nonlinearity (He et al. 2015)."""
    checks.one_of("nonlinearity", nonlinearity, ("linear", "sigmoid", "tanh", "relu", "leaky_relu"))
    return {"tanh": 5 / 3, "relu": math.sqrt(2.0), "leaky_relu": math.sqrt(2 / (1 + slope**2))}.get(nonlinearity, 1.0)


def _fill(tensor: Tensor, values: Any) -> Tensor:
    tensor.data[...] = values
    tensor._version[0] += 1
    return tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fill with draws of N(mean, std^2)."""
    checks.real("std", std, 0.0)
    return _fill(tensor, random.initial_generator().normal(checks.real("mean", mean), std, tensor.shape))


def uniform_(tensor: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Fill with draws from [low, high)."""
    checks.real("high", high, checks.real("low", low))
    return _fill(tensor, random.initial_generator().uniform(low, high, tensor.shape))


def constant_(tensor: Tensor, value: float) -> Tensor:
    """Fill with one value."""
    return _fill(tensor, value)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros."""
    return _fill(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones."""
    return _fill(tensor, 1.0)


def kaiming_normal_(tensor: Tensor, mode: str = "fan_in", nonlinearity: str = "relu", slope: float = 0.0) -> Tensor:
    """Fill with N(0, gain^2 / fan): K. He et al., "Delving deep into rectifiers", ICCV 2015, eq. 10."""
    return normal_(tensor, 0.0, gain(nonlinearity, slope) / math.sqrt(_fan(tensor, mode)))


def kaiming_uniform_(tensor: Tensor, mode: str = "fan_in", nonlinearity: str = "relu", slope: float = 0.0) -> Tensor:
    """Fill with U(-b, b), b = gain * sqrt(3 / fan): the uniform form of `kaiming_normal_`."""
    bound = gain(nonlinearity, slope) * math.sqrt(3 / _fan(tensor, mode))
    return uniform_(tensor, -bound, bound)


def _fan(tensor: Tensor, mode: str) -> int:
    checks.one_of("mode", mode, ("fan_in", "fan_out"))
    return max(_fans(tensor)[mode == "fan_out"], 1)


def xavier_normal_(tensor: Tensor, scale: float = 1.0) -> Tensor:
    """Fill with N(0, 2 scale^2 / (fan-in + fan-out)): X. Glorot, Y. Bengio, AISTATS 2010."""
    return normal_(tensor, 0.0, scale * math.sqrt(2 / max(sum(_fans(tensor)), 1)))


def xavier_uniform_(tensor: Tensor, scale: float = 1.0) -> Tensor:
    """Fill with U(-b, b), b = scale * sqrt(6 / (fan-in + fan-out)): Glorot and Bengio 2010, eq. 16."""
    bound = scale * math.sqrt(6 / max(sum(_fans(tensor)), 1))
    return uniform_(tensor, -bound, bound)


def default_(weight: Tensor, bias: Tensor | None) -> None:
    """Fill as PyTorch's layers do: both from U(-b, b), b = 1 / sqrt(fan-in)."""
    bound = 1 / math.sqrt(max(_fans(weight)[0], 1))
    uniform_(weight, -bound, bound)
    if bias is not None:
        uniform_(bias, -bound, bound)
