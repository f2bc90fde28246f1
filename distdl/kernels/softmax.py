"""Cross-entropy and its gradient, in one pass over each row; NumPy's vector exponentials come before it."""

import math

import numpy as np

from .registry import kernel


def _cross_entropy(
    shifted: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray,
    ignore_index: int,
    smoothing: float,
    losses: np.ndarray,
    gradient: np.ndarray,
) -> None:
    counted = labels != ignore_index
    total = gradient.sum(axis=1, keepdims=True)
    target = np.tile(smoothing / weight.size * weight, (len(shifted), 1)).astype(shifted.dtype)
    rows = np.nonzero(counted)[0]
    target[rows, labels[rows]] += (1 - smoothing) * weight[labels[rows]]
    mass = target.sum(axis=1, keepdims=True)
    terms = np.zeros_like(target)
    # A class that does not count must not make NaN of an infinitely small probability.
    np.multiply(target, np.log(total) - shifted, out=terms, where=target != 0)
    losses[...] = np.where(counted, terms.sum(axis=1), 0)
    gradient[...] = np.where(counted[:, None], gradient / total * mass - target, 0)


@kernel(reference=_cross_entropy)
def cross_entropy(shifted, labels, weight, ignore_index, smoothing, losses, gradient):  # type: ignore[no-untyped-def]
    """losses[i] = - sum over c of t[i, c] * log softmax(shifted[i])[c], and its gradient by `shifted`.

    t[i, c] = weight[c] * ((1 - smoothing) * [c == labels[i]] + smoothing / classes); rows whose label is
    `ignore_index` have neither loss nor gradient. shifted: logits less their greatest, (n, classes);
    labels int64 (n,); gradient holds exp(shifted) at first.
    """
    real = shifted.dtype.type
    classes = shifted.shape[1]
    share, main = real(smoothing / classes), real(1 - smoothing)
    for i in range(shifted.shape[0]):
        label = labels[i]
        if label == ignore_index:
            losses[i] = 0
            for c in range(classes):
                gradient[i, c] = 0
            continue
        total = 0.0
        for c in range(classes):
            total += gradient[i, c]
        log_total = real(math.log(total))
        loss = mass = 0.0
        for c in range(classes):
            t = weight[c] * (share + main if c == label else share)
            if t != 0:
                loss += t * (log_total - shifted[i, c])
            mass += t
        losses[i] = loss
        scale = real(mass / total)
        for c in range(classes):
            t = weight[c] * (share + main if c == label else share)
            gradient[i, c] = gradient[i, c] * scale - t
