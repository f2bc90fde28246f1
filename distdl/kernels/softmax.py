"""Softmax with cross-entropy, in one pass over each row."""

import math

import numpy as np

from .registry import kernel


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


@kernel(reference=_cross_entropy)
def cross_entropy(logits, labels, weight, ignore_index, smoothing, losses, gradient):  # type: ignore[no-untyped-def]
    """losses[i] = - sum over c of t[i, c] * log softmax(logits[i])[c], and its gradient by the logits.

    t[i, c] = weight[c] * ((1 - smoothing) * [c == labels[i]] + smoothing / classes); rows whose label is
    `ignore_index` have neither loss nor gradient. logits, gradient (n, classes); labels int64 (n,).
    """
    classes = logits.shape[1]
    share = logits.dtype.type(smoothing / classes)
    main = logits.dtype.type(1 - smoothing)
    for i in range(logits.shape[0]):
        label = labels[i]
        if label == ignore_index:
            losses[i] = 0
            for c in range(classes):
                gradient[i, c] = 0
            continue
        greatest = logits[i, 0]
        for c in range(1, classes):
            value = logits[i, c]
            greatest = value if value > greatest or value != value else greatest
        total = 0.0
        for c in range(classes):
            e = math.exp(logits[i, c] - greatest)
            gradient[i, c] = e
            total += e
        log_total = logits.dtype.type(math.log(total))
        loss = 0.0
        mass = 0.0
        for c in range(classes):
            t = share * weight[c]
            if c == label:
                t += main * weight[c]
            if t != 0:
                loss += t * (log_total - (logits[i, c] - greatest))
            mass += t
        losses[i] = loss
        scale = logits.dtype.type(mass / total)
        for c in range(classes):
            gradient[i, c] *= scale
            t = share * weight[c]
            if c == label:
                t += main * weight[c]
            gradient[i, c] -= t
