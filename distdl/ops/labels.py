"""Class labels and class weights: their checks, and what a mean over them divides by."""

import numpy as np

from ..core.errors import ArgumentError, ArgumentTypeError
from .checking import bad_shape, check_float


def check_classes(name: str, x: np.ndarray) -> None:
    """Raise unless `x` has rows of floats, one for each class."""
    check_float(name, x)
    if x.ndim < 2:
        raise bad_shape(name, x, "(N, ..., C)")
    if x.shape[-1] == 0:
        raise ArgumentError(f"`{name}` (shape {x.shape}) must have a class or more on its last axis")


def check_labels(labels: np.ndarray, logits: np.ndarray, ignore_index: int) -> np.ndarray:
    """Return labels as int64, C-contiguous, or raise.

    Args:
        labels: integers of the shape of the logits without its last axis.
        logits: (N, ..., C).
        ignore_index: a label that is allowed besides 0 .. C - 1.

    Raises:
        ArgumentTypeError: they are no integers.
        ArgumentError: the shape is another, or a label is none of the classes; the message names its row.
    """
    if labels.dtype.kind not in "iu" and labels.size:
        raise ArgumentTypeError(f"`labels` (dtype {labels.dtype}) must be integers, the indices of classes")
    if labels.shape != logits.shape[:-1]:
        raise bad_shape("labels", labels, str(logits.shape[:-1]), f"one class for each row of logits {logits.shape}")
    classes = logits.shape[-1]
    wrong = ((labels < 0) | (labels >= classes)) & (labels != ignore_index)
    if wrong.any():
        row = tuple(int(i) for i in np.argwhere(wrong)[0])
        place = ", ".join(map(str, row))
        raise ArgumentError(
            f"`labels[{place}]` (={labels[row]}) must be within [0, {classes - 1}], the classes of "
            f"the logits {logits.shape}, or be `ignore_index` (={ignore_index})"
        )
    return np.array(labels, np.int64, order="C", copy=labels.dtype != np.int64 or not labels.flags.writeable or None)


def check_probabilities(labels: np.ndarray, logits: np.ndarray) -> None:
    """Raise unless `labels` are probabilities of classes, of the shape of the logits (N, ..., C)."""
    if labels.shape == logits.shape[:-1]:
        raise ArgumentTypeError(
            f"`labels` (dtype {labels.dtype}) must be integers, the indices of classes; "
            f"floats are probabilities, of the logits' shape {logits.shape}"
        )
    if labels.shape != logits.shape:
        raise bad_shape("labels", labels, str(logits.shape), "probabilities of classes")
    if not (labels >= 0).all():
        worst = labels[~(labels >= 0)][0]
        raise ArgumentError(f"`labels` (with {worst}) must be >= 0: floats are probabilities of classes")


def check_weight(weight: np.ndarray | None, logits: np.ndarray) -> np.ndarray:
    """Return class weights in the type of the logits (N, ..., C), ones by default, or raise."""
    classes = logits.shape[-1]
    if weight is None:
        return np.ones(classes, logits.dtype)
    array = np.array(weight, logits.dtype, order="C")
    if array.shape != (classes,):
        raise bad_shape("weight", array, f"({classes},)", "one weight for each class")
    wrong = ~((array >= 0) & np.isfinite(array))
    if wrong.any():
        place = int(np.argmax(wrong))
        raise ArgumentError(f"`weight[{place}]` (={array[place]}) must be finite and >= 0")
    return array


def cross_entropy_denominator(labels: np.ndarray, weight: np.ndarray | None = None, ignore_index: int = -100) -> float:
    """Return what the mean of cross-entropy or of negative log-likelihood divides the sum of losses by.

    Args:
        labels: classes, integers (N, ...), or probabilities (N, ..., C), which count as one a row.
        weight: of classes, (C,), or None: all 1.
        ignore_index: a label that does not count.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind == "f":
        return float(labels.size // max(labels.shape[-1], 1))
    counted = labels[labels != ignore_index]
    return float(counted.size) if weight is None else float(np.asarray(weight)[counted].sum(dtype=np.float64))
