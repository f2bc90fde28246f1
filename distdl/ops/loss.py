"""Losses, with PyTorch's meaning; rows may have any number of axes, classes lie on the last."""

from typing import Any

import numpy as np

from ..core import checks, memory
from ..core.errors import ArgumentError
from ..kernels import softmax_rows
from ..kernels.registry import dense
from ..kernels.softmax import cross_entropy as cross_entropy_kernel
from .broadcast import sum_to
from .checking import bad_shape, check_float, check_like
from .labels import check_classes, check_labels, check_probabilities, check_weight, cross_entropy_denominator
from .reduce_loss import reduce_loss
from .registry import op


@op
def softmax(x: np.ndarray, *, axis: int = -1) -> Any:
    """exp(x) / sum of exp(x), along one axis."""
    check_float("x", x)
    if x.dtype == np.float32 and x.size and axis in (-1, x.ndim - 1):
        return _softmax_rows(dense(x))
    y = np.exp(_shifted(x, axis))
    y /= y.sum(axis=axis, keepdims=True)
    return y, lambda dy: y * (dy - (dy * y).sum(axis=axis, keepdims=True))


def _softmax_rows(x: np.ndarray) -> Any:
    rows = (-1, x.shape[-1])
    y = memory.empty(x.shape, x.dtype)
    softmax_rows.softmax_rows(x.reshape(rows), y.reshape(rows))

    def backward(dy: np.ndarray) -> np.ndarray:
        dx = memory.empty(y.shape, y.dtype)
        softmax_rows.softmax_rows_backward(y.reshape(rows), dense(dy).reshape(rows), dx.reshape(rows))
        return dx

    return y, backward


def _shifted(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return x less its maximum, which changes no softmax, and whose exponentials do not overflow."""
    return np.asarray(x - x.max(axis=axis, keepdims=True, initial=-np.inf))


def _log_softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    shifted = _shifted(x, axis)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))


@op
def log_softmax(x: np.ndarray, *, axis: int = -1) -> Any:
    """log(softmax(x)), along one axis, without its overflow."""
    check_float("x", x)
    y = _log_softmax(x, axis)
    return y, lambda dy: dy - np.exp(y) * dy.sum(axis=axis, keepdims=True)


@op(reads_inputs=False)
def cross_entropy(
    logits: np.ndarray,
    *,
    labels: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Any:
    """The negative logarithm of the probability that softmax gives to the right class.

    Args:
        logits: (N, ..., C), any real numbers.
        labels: classes, integers (N, ...), or probabilities of classes, of the shape of the logits.
        weight: of classes, (C,); a mean divides by the weights of the labels (not so with probabilities).
        ignore_index: a label that does not count.
        label_smoothing: the share of each label that is spread evenly over all classes
            (C. Szegedy et al., "Rethinking the inception architecture", CVPR 2016, section 7).
        reduction: "mean", "sum" or "none".
    """
    check_classes("logits", logits)
    label_smoothing = checks.real("label_smoothing", label_smoothing, 0.0, 1.0)
    labels = np.asarray(labels)
    weights = check_weight(weight, logits)
    if labels.dtype.kind == "f":
        check_probabilities(labels, logits)
        return _soft_cross_entropy(logits, labels, weights, label_smoothing, reduction)
    labels = check_labels(labels, logits, ignore_index)
    denominator = cross_entropy_denominator(labels, weight, ignore_index)
    losses, gradient = np.empty(labels.shape, logits.dtype), memory.empty(logits.shape, logits.dtype)
    rows = (labels.size, logits.shape[-1])
    outputs = losses.reshape(-1), gradient.reshape(rows)
    if logits.dtype == np.float32:
        kernel, values = softmax_rows.cross_entropy_rows, dense(logits).reshape(rows)
    else:
        kernel, values = cross_entropy_kernel, dense(_shifted(logits)).reshape(rows)
        np.exp(values, out=outputs[1])
    kernel(values, labels.reshape(-1), weights, ignore_index, label_smoothing, *outputs)
    loss, spread = reduce_loss(losses, denominator, reduction)
    return loss, lambda dy: np.multiply(
        gradient, spread(dy)[..., None], out=memory.empty(gradient.shape, gradient.dtype)
    )


def _soft_cross_entropy(
    logits: np.ndarray, labels: np.ndarray, weights: np.ndarray, smoothing: float, reduction: str
) -> Any:
    log_probabilities = _log_softmax(logits)
    target = (labels * (1 - smoothing) + smoothing / labels.shape[-1]) * weights
    target = target.astype(logits.dtype, copy=False)
    losses = -np.multiply(target, log_probabilities, out=np.zeros_like(target), where=target != 0).sum(axis=-1)
    loss, spread = reduce_loss(losses, losses.size, reduction)

    def backward(dy: np.ndarray) -> np.ndarray:
        mass = target.sum(axis=-1, keepdims=True)
        return np.asarray((np.exp(log_probabilities) * mass - target) * spread(dy)[..., None])

    return loss, backward


@op(reads_inputs=False)
def nll_loss(
    x: np.ndarray,
    *,
    labels: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:
    """Minus the value of the right class, weighted: cross-entropy of logarithms of probabilities.

    Args:
        x: logarithms of probabilities (N, ..., C).
        labels, weight, ignore_index, reduction: see `cross_entropy`; classes only.
    """
    check_classes("x", x)
    weights = check_weight(weight, x)
    labels = check_labels(np.asarray(labels), x, ignore_index)
    denominator = cross_entropy_denominator(labels, weight, ignore_index)
    counted = labels != ignore_index
    places = np.where(counted, labels, 0)[..., None]
    factors = np.where(counted, weights[places[..., 0]], 0)
    losses = np.where(counted, -factors * np.take_along_axis(x, places, axis=-1)[..., 0], 0)
    loss, spread = reduce_loss(losses, denominator, reduction)
    shape = x.shape

    def backward(dy: np.ndarray) -> np.ndarray:
        dx = np.zeros(shape, dy.dtype)
        np.put_along_axis(dx, places, (-factors * spread(dy))[..., None], axis=-1)
        return dx

    return loss, backward


@op(reads_inputs=False)
def mse_loss(x: np.ndarray, target: np.ndarray, *, reduction: str = "mean") -> Any:
    """(x - target)^2.

    Args:
        x: predictions of any shape.
        target: of the same shape.
        reduction: "mean" (over all values), "sum" or "none".
    """
    check_float("x", x)
    check_like("target", target, x, x.shape, "targets have the shape of the predictions")
    distance = x - target
    loss, spread = reduce_loss(distance * distance, distance.size, reduction)

    def backward(dy: np.ndarray, wanted: Any) -> Any:
        dx = distance * (2 * spread(dy))
        return dx if wanted[0] is not False else None, -dx if wanted[1] is not False else None

    return loss, backward


@op
def binary_cross_entropy_with_logits(
    logits: np.ndarray,
    target: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    pos_weight: np.ndarray | None = None,
    reduction: str = "mean",
) -> Any:
    """-w (p t log s(x) + (1 - t) log(1 - s(x))), s the logistic function, w `weight`, p `pos_weight`.

    Args:
        logits: x, of any shape.
        target: t, of the same shape, within [0, 1].
        weight: of values, broadcast to the logits.
        pos_weight: of positive targets, broadcast to the logits.
        reduction: "mean" (over all values), "sum" or "none".
    """
    check_float("logits", logits)
    check_like("target", target, logits, logits.shape, "targets have the shape of the logits")
    w = _broadcast("weight", weight, logits)
    p = _broadcast("pos_weight", pos_weight, logits)
    if target.size and not (target.min() >= 0 and target.max() <= 1):
        raise ArgumentError(f"`target` (from {target.min():g} to {target.max():g}) must be within [0, 1]")
    # log(1 + exp(-x)) and log(1 + exp(x)) = x + log(1 + exp(-x)), neither of which overflows.
    off = np.logaddexp(0, -logits).astype(logits.dtype, copy=False)
    positive = p * target
    loss, spread = reduce_loss(w * (positive * off + (1 - target) * (logits + off)), logits.size, reduction)

    def backward(dy: np.ndarray, wanted: Any) -> Any:
        factor = w * spread(dy)
        dx = dt = None
        if wanted[0] is not False:
            sigmoid = np.exp(-off)
            dx = sum_to((sigmoid * (positive + (1 - target)) - positive) * factor, logits.shape)
        if wanted[1] is not False:
            dt = sum_to((p * off - (logits + off)) * factor, target.shape)
        return dx, dt

    return loss, backward


def _broadcast(name: str, weight: np.ndarray | None, like: np.ndarray) -> Any:
    """Return weights in the type of `like`, or 1; they must be >= 0 and broadcast to it."""
    if weight is None:
        return like.dtype.type(1)
    array = np.asarray(weight, like.dtype)
    if not (array >= 0).all():
        raise ArgumentError(f"`{name}` (smallest {array.min()}) must be >= 0")
    try:
        fits = np.broadcast_shapes(array.shape, like.shape) == like.shape
    except ValueError:
        fits = False
    if not fits:
        raise bad_shape(name, array, f"broadcastable to {like.shape}, the shape of the logits")
    return array
