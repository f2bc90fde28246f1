"""Undoing NumPy's broadcasting in gradients."""

from typing import Any

import numpy as np


def sum_to(gradient: np.ndarray, operand: Any) -> np.ndarray:
    """Sum `gradient` over the axes along which `operand` was broadcast to the gradient's shape."""
    shape = operand.shape
    if gradient.shape == shape:
        return gradient
    added = gradient.ndim - len(shape)
    axes = tuple(range(added)) + tuple(
        added + i for i, extent in enumerate(shape) if extent == 1 and gradient.shape[added + i] != 1
    )
    summed: np.ndarray = gradient.sum(axis=axes, keepdims=True)
    return summed.reshape(shape)
