"""Undoing NumPy's broadcasting in gradients."""

import numpy as np


def sum_to(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum `gradient` over the axes along which an operand of that shape was broadcast to the gradient's."""
    if gradient.shape == shape:
        return gradient
    added = gradient.ndim - len(shape)
    axes = tuple(range(added)) + tuple(
        added + i for i, extent in enumerate(shape) if extent == 1 and gradient.shape[added + i] != 1
    )
    summed: np.ndarray = gradient.sum(axis=axes, keepdims=True)
    return summed.reshape(shape)
