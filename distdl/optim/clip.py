"""Gradient clipping."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..autograd import Tensor, settle_gradients
from ..core import checks


def clip_grad_norm_(parameters: Any, max_norm: float) -> float:
    """Scale gradients so that their common L2 norm is at most `max_norm` (R. Pascanu et al., ICML 2013).

    After a synchronized backward() gradients are global, and so is this norm: the same on all ranks.

    Args:
        parameters: a parameter, several, or a `Module`.
        max_norm: the bound, > 0.

    Returns:
        The norm before clipping; NaN or inf if gradients are, which are then left as they are.
    """
    checks.real("max_norm", max_norm, above=0.0)
    tensors = _tensors(parameters)
    settle_gradients(tensors)
    gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
    norm = math.sqrt(sum(_square_sum(gradient) for gradient in gradients))
    if norm > max_norm and math.isfinite(norm):
        for gradient in gradients:
            gradient *= gradient.dtype.type(max_norm / norm)
    return norm


def _square_sum(gradient: np.ndarray) -> float:
    flat = gradient.reshape(-1)
    return float(np.einsum("i,i->", flat, flat, dtype=np.float64))


def clip_grad_value_(parameters: Any, clip_value: float) -> None:
    """Limit every value of the gradients to [-clip_value, clip_value].

    Args:
        parameters: a parameter, several, or a `Module`.
        clip_value: the bound, > 0.
    """
    checks.real("clip_value", clip_value, above=0.0)
    tensors = _tensors(parameters)
    settle_gradients(tensors)
    for tensor in tensors:
        if tensor.grad is not None:
            np.clip(tensor.grad, -clip_value, clip_value, out=tensor.grad)


def _tensors(parameters: Any) -> list[Tensor]:
    if isinstance(parameters, Tensor):
        return [parameters]
    if callable(getattr(parameters, "parameters", None)):
        parameters = parameters.parameters()
    items: Iterable[Tensor] = parameters
    return list(items)
