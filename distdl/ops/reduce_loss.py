"""From the losses of rows to the loss of a batch: none, sum, or mean."""

from typing import Any

import numpy as np

from ..core import checks

REDUCTIONS = ("mean", "sum", "none")


def reduce_loss(losses: np.ndarray, denominator: float, reduction: str) -> tuple[np.ndarray, Any]:
    """Reduce losses, and say what gradient each of them gets.

    Args:
        losses: of any shape.
        denominator: what a mean divides the sum by; where it is 0 the mean is 0, without a gradient.
        reduction: "mean", "sum" or "none".

    Returns:
        The loss, of the type of `losses`, and a function from its gradient to the gradient of `losses`,
        which broadcasts to them.
    """
    checks.one_of("reduction", reduction, REDUCTIONS)
    if reduction == "none":
        return losses, lambda dy: dy
    scale = 1.0 if reduction == "sum" else 1 / denominator if denominator else 0.0
    # A mean over nothing stays 0, though weights of 0 may have met infinite losses.
    total = losses.sum(dtype=np.float64) * scale if scale else 0.0
    return np.asarray(total, losses.dtype), lambda dy: np.asarray(dy * dy.dtype.type(scale))
