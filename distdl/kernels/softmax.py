"""Softmax with cross-entropy, in one pass over each row."""

import math
from typing import Any

import numpy as np

from .registry import helper, kernel


def _cross_entropy(
    logits: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray,
    ignore_index: int,
    smoothing: float,
    losses: np.ndarray,
    gradient: np.ndarray,
) -> None:
    classes = logits.shape[1]
    counted = labels != ignore_index
    shifted = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    target = np.tile(smoothing / max(classes, 1) * weight, (len(logits), 1)).astype(logits.dtype)
    rows = np.nonzero(counted)[0]
    target[rows, labels[rows]] += (1 - smoothing) * weight[labels[rows]]
    mass = target.sum(axis=1, keepdims=True)
    terms = np.zeros_like(target)
    # A class that does not count must not make NaN of an infinitely small probability.
    np.multiply(target, np.log(total) - shifted, out=terms, where=target != 0)
    losses[...] = np.where(counted, terms.sum(axis=1), 0)
    gradient[...] = np.where(counted[:, None], exponentials / total * mass - target, 0)


@helper
def _exponentials(logits: Any, i: int, out: Any) -> Any:
    """Write exp(logits[i] - their maximum) to out[i]; return the maximum and the sum."""
    greatest = logits[i, 0]
    for c in range(1, logits.shape[1]):
        value = logits[i, c]
        greatest = value if value > greatest or value != value else greatest
    total = 0.0
    for c in range(logits.shape[1]):
        out[i, c] = math.exp(logits[i, c] - greatest)
        total += out[i, c]
    return greatest, total


@kernel(reference=_cross_entropy)
def cross_entropy(logits, labels, weight, ignore_index, smoothing, losses, gradient):  # type: ignore[no-untyped-def]
    """losses[i] = - sum over c of t[i, c] * log softmax(logits[i])[c], and its gradient by the logits.

    t[i, c] = weight[c] * ((1 - smoothing) * [c == labels[i]] + smoothing / classes); rows whose label is
    `ignore_index` have neither loss nor gradient. logits, gradient (n, classes); labels int64 (n,).
    """
    real = logits.dtype.type
    classes = logits.shape[1]
    share, main = real(smoothing / classes), real(1 - smoothing)
    for i in range(logits.shape[0]):
        label = labels[i]
        if label == ignore_index:
            losses[i] = 0
            for c in range(classes):
                gradient[i, c] = 0
            continue
        greatest, total = _exponentials(logits, i, gradient)
        log_total = real(math.log(total))
        loss = mass = 0.0
        for c in range(classes):
            t = weight[c] * (share + main if c == label else share)
            if t != 0:
                loss += t * (log_total - (logits[i, c] - greatest))
            mass += t
        losses[i] = loss
        scale = real(mass / total)
        for c in range(classes):
            t = weight[c] * (share + main if c == label else share)
            gradient[i, c] = gradient[i, c] * scale - t
