"""Softmax and cross-entropy of float32 on vectors of classes, row by row; `softmax.py` has other types."""

import math

import numpy as np

from .registry import helper, kernel
from .simd import LANES, LOWEST, add, at_least, fill, fma, mul, sub, where_positive, zero
from .simd_math import exp, first_of, highest, total
from .softmax import _cross_entropy
from .tiles import get, put


@helper
def _exponentials(x, at, count, y):  # type: ignore[no-untyped-def]
    """y[at + i] = exp(x[at + i] - greatest), but for the last vector; return the greatest, the sum, that vector.

    What is stored by a mask cannot be loaded again at once, so the last one stays in a register.
    """
    last = at + _before_last(count)
    lanes = at + count - last
    tail = first_of(get(x, last, lanes), lanes, fill(LOWEST))
    best = tail
    for i in range(at, last, LANES):
        best = at_least(get(x, i, LANES), best)
    greatest = highest(best)
    centre, sums = fill(greatest), zero()
    for i in range(at, last, LANES):
        power = exp(sub(get(x, i, LANES), centre))
        put(y, i, power, LANES)
        sums = add(sums, power)
    tail = exp(sub(tail, centre))
    return greatest, total(add(sums, first_of(tail, lanes, zero()))), tail


@helper
def _before_last(count):  # type: ignore[no-untyped-def]
    """Return how many of so many elements lie before the last vector, which has 1 to 16."""
    return (count - 1) // LANES * LANES


def _softmax_rows(x: np.ndarray, y: np.ndarray) -> None:
    power = np.exp(x - x.max(axis=1, keepdims=True))
    y[...] = power / power.sum(axis=1, keepdims=True)


@kernel(reference=_softmax_rows, types=("float32",))
def softmax_rows(x, y):  # type: ignore[no-untyped-def]
    """y = softmax of each row of x (rows, columns), one column or more."""
    columns = x.shape[1]
    values, results = x.reshape(-1), y.reshape(-1)
    for i in range(x.shape[0]):
        at = i * columns
        _, whole, tail = _exponentials(values, at, columns, results)
        scale = fill(np.float32(1) / whole)
        last = _before_last(columns)
        for k in range(at, at + last, LANES):
            put(results, k, mul(get(results, k, LANES), scale), LANES)
        put(results, at + last, mul(tail, scale), columns - last)


def _softmax_rows_backward(y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    dx[...] = y * (dy - (dy * y).sum(axis=1, keepdims=True))


@kernel(reference=_softmax_rows_backward, types=("float32",))
def softmax_rows_backward(y, dy, dx):  # type: ignore[no-untyped-def]
    """dx = y * (dy - the sum of dy * y over the row)."""
    columns = y.shape[1]
    values, gradients, results = y.reshape(-1), dy.reshape(-1), dx.reshape(-1)
    for i in range(y.shape[0]):
        at = i * columns
        sums = zero()
        for k in range(at, at + columns, LANES):
            sums = fma(get(values, k, at + columns - k), get(gradients, k, at + columns - k), sums)
        mean = fill(total(sums))
        for k in range(at, at + columns, LANES):
            lanes = at + columns - k
            put(results, k, mul(get(values, k, lanes), sub(get(gradients, k, lanes), mean)), lanes)


def _cross_entropy_rows(
    logits: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray,
    ignore_index: int,
    smoothing: float,
    losses: np.ndarray,
    gradient: np.ndarray,
) -> None:
    shifted = logits - logits.max(axis=1, keepdims=True)
    gradient[...] = np.exp(shifted)
    _cross_entropy(shifted, labels, weight, ignore_index, smoothing, losses, gradient)


@kernel(reference=_cross_entropy_rows, types=("float32",))
def cross_entropy_rows(logits, labels, weight, ignore_index, smoothing, losses, gradient):  # type: ignore[no-untyped-def]
    """losses[i] = the loss of `softmax.cross_entropy`, and its gradient, of logits as they come."""
    classes = logits.shape[1]
    share, main = np.float32(smoothing / classes), np.float32(1 - smoothing)
    values, results = logits.reshape(-1), gradient.reshape(-1)
    weights = zero()
    for k in range(0, classes, LANES):
        weights = add(weights, get(weight, k, classes - k))
    spread_mass = share * total(weights)
    last = _before_last(classes)
    for i in range(logits.shape[0]):
        label, at = labels[i], i * classes
        if label == ignore_index:
            losses[i] = 0
            gradient[i] = 0
            continue
        greatest, whole, tail = _exponentials(values, at, classes, results)
        log_whole = np.float32(math.log(whole))
        target = main * weight[label]
        # A class that does not count must not make NaN of an infinitely small probability.
        loss = target * (log_whole - (values[at + label] - greatest)) if target != 0 else np.float32(0)
        if share != 0:
            loss += share * _spread_loss(values, at, weight, greatest, log_whole)
        losses[i] = loss
        scale, shares = fill((target + spread_mass) / whole), fill(-share)
        for k in range(0, last, LANES):
            put(results, at + k, fma(get(results, at + k, LANES), scale, mul(shares, get(weight, k, LANES))), LANES)
        put(results, at + last, fma(tail, scale, mul(shares, get(weight, last, classes - last))), classes - last)
        gradient[i, label] -= target


@helper
def _spread_loss(x, at, weight, greatest, log_whole):  # type: ignore[no-untyped-def]
    """Return the sum of weight * (log_whole - x + greatest) over a row."""
    centre, log, sums = fill(greatest), fill(log_whole), zero()
    for k in range(0, weight.size, LANES):
        w = get(weight, k, weight.size - k)
        term = mul(w, sub(log, sub(get(x, at + k, weight.size - k), centre)))
        sums = add(sums, where_positive(w, term))
    return total(sums)
