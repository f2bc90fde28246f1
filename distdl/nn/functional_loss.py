"""The losses as functions.

A loss with reduction "mean" notes on its result what it divided by (`Tensor.denominator`), so that
the gradient synchronizer can form the exact mean over ranks with different numbers of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Tensor, apply
from ..core import checks
from ..ops import loss as loss_ops
from ..ops.labels import cross_entropy_denominator
from .inputs import as_tensor, as_values

_REDUCTIONS = ("mean", "sum", "none")


def _with_denominator(result: Tensor, reduction: str, denominator: float) -> Tensor:
    if reduction == "mean":
        result.denominator = float(denominator)
    return result


def _of_labels(
    loss: Callable[..., Any], x: Any, labels: Any, weight: Any, ignore_index: int, reduction: str, **options: Any
) -> Tensor:
    checks.one_of("reduction", reduction, _REDUCTIONS)
    targets, weights = as_values(labels), None if weight is None else as_values(weight)
    options |= {"labels": targets, "weight": weights, "ignore_index": ignore_index, "reduction": reduction}
    result = apply(loss, as_tensor(x), **options)
    return _with_denominator(result, reduction, cross_entropy_denominator(targets, weights, ignore_index))


def cross_entropy(
    logits: Any,
    labels: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross entropy between softmax(logits) and labels.

    Args:
        logits: (rows, ..., classes).
        labels: classes (rows, ...), or probabilities of the logits' shape.
        weight: of the classes, (classes,); the mean divides by the weights of the labels.
        ignore_index: rows with this label do not count.
        reduction: "mean", "sum" or "none". The mean over no row is 0.
        label_smoothing: share of each label that is spread evenly over all classes, within [0, 1].

    Raises:
        ArgumentError: a label is out of range, a shape does not fit, or an option breaks its rule.
    """
    checks.real("label_smoothing", label_smoothing, 0.0, 1.0)
    options = {"label_smoothing": label_smoothing}
    return _of_labels(loss_ops.cross_entropy, logits, labels, weight, ignore_index, reduction, **options)


def nll_loss(
    log_probabilities: Any, labels: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Minus the log-probability of the label; arguments as in `cross_entropy`, classes on the last axis."""
    return _of_labels(loss_ops.nll_loss, log_probabilities, labels, weight, ignore_index, reduction)


def _like(target: Any, x: Tensor) -> Any:
    """Return a target as a tensor or array of the predictions' dtype."""
    return target if isinstance(target, Tensor) else np.asarray(target).astype(x.dtype, copy=False)


def mse_loss(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """(x - target)^2; the mean is over all values."""
    checks.one_of("reduction", reduction, _REDUCTIONS)
    x = as_tensor(x)
    return _with_denominator(apply(loss_ops.mse_loss, x, _like(target, x), reduction=reduction), reduction, _rows(x))


def binary_cross_entropy_with_logits(
    logits: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """Cross entropy between sigmoid(logits) and targets within [0, 1].

    Args:
        logits, target: of one shape.
        weight: of each value, broadcast to the logits.
        pos_weight: of the positive part, broadcast to the logits.
        reduction: "mean" (over all values), "sum" or "none".
    """
    checks.one_of("reduction", reduction, _REDUCTIONS)
    logits = as_tensor(logits)
    result = apply(
        loss_ops.binary_cross_entropy_with_logits,
        logits,
        _like(target, logits),
        weight=None if weight is None else as_values(weight),
        pos_weight=None if pos_weight is None else as_values(pos_weight),
        reduction=reduction,
    )
    return _with_denominator(result, reduction, _rows(logits))


def _rows(x: Tensor) -> int:
    """Return the rows: a mean over all values is the mean over rows of each row's mean."""
    return x.shape[0] if x.ndim else 1
