"""Batch and layer normalisation."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import memory
from ..kernels import norm
from ..kernels.registry import dense
from . import batch
from .checking import bad_shape, check_float, check_like
from .registry import LATER, op

Statistics = tuple[np.ndarray, ...]


@op(joins_relu=True)
def batch_norm(
    x: np.ndarray,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    *,
    eps: float = 1e-5,
    stats: Statistics | None = None,
    use: Statistics | None = None,
    relu: bool = False,
    add_up: Callable[[np.ndarray], Any] | None = None,
    moments: batch.Moments | None = None,
) -> Any:
    """(x - mean) / sqrt(variance + eps) * weight + bias over all axes but the last (S. Ioffe, C. Szegedy, 2015).

    Args:
        x: (..., channels); without rows the result is empty and the gradients are zero.
        weight, bias: (channels,), or None for 1 and 0.
        eps: added to the variance.
        stats: two arrays (channels,) which get mean and biased variance of x, if it has rows; a third, of one
            value, gets the number of rows.
        use: mean and variance that are taken instead of those of x; they are no part of the gradient.
        relu: whether max(., 0) follows.
        add_up: adds up an array of float64 in place over all who normalise by common statistics: called once, with
            the moments, and once in the backward pass, if the gradient of x is wanted.
        moments: those of x, if they were found before.
    """
    channels = _check(x, x.shape[-1:], weight, bias)[0]
    rows = dense(x).reshape(-1, channels)
    count = len(rows)
    if use is not None:
        mean, variance = (np.array(moment, x.dtype) for moment in use)
    elif add_up is not None:
        count, mean, variance = _common_moments(rows, add_up)
    elif moments is not None and moments.found is not None:
        mean, variance = moments.found
    elif count:
        mean, variance = batch.moments(rows)
    else:
        mean, variance = np.zeros(channels, x.dtype), np.ones(channels, x.dtype)
    if use is None and stats is not None and count:
        for target, value in zip(stats, (mean, variance, count), strict=False):
            target[:] = value
    inverse = 1 / np.sqrt(variance + x.dtype.type(eps))
    scale = inverse if weight is None else inverse * weight
    shift = np.zeros(channels, x.dtype) if bias is None else dense(bias)
    y = batch.scale(rows, mean, scale, shift, relu)

    def backward(dy: np.ndarray, wanted: Any, mask: np.ndarray | None = None) -> Any:
        dy = dense(dy)
        # Where a ReLU let nothing through is computed anew: cheaper than to read what it gave.
        masked = relu or mask is not None
        sums = batch.sums(rows, dy.reshape(rows.shape), mean, (scale, shift) if masked else None)
        dweight, dbias = (sums[0] * inverse).astype(x.dtype), sums[1].astype(x.dtype)
        dx: Any = None
        if wanted[0] is not False:
            if add_up is not None:
                add_up(sums)
            share = 0.0 if use is not None else 1 / max(count, 1)
            slope = sums[0] * np.square(inverse, dtype=np.float64) * share
            table = np.array((mean, scale, shift, slope, sums[1] * share), x.dtype)
            later = batch.InputGradient(rows.reshape(x.shape), dy, masked, table)
            dx = later if wanted[0] is LATER else later.compute()
        return (dx, dweight, dbias)[: len(wanted)]

    return y.reshape(x.shape), backward


def _common_moments(rows: np.ndarray, add_up: Callable[[np.ndarray], Any]) -> tuple[int, np.ndarray, np.ndarray]:
    """Return number, mean and biased variance of all rows, here and elsewhere."""
    own = np.stack(batch.moments(rows)).astype(np.float64) if len(rows) else np.zeros((2, rows.shape[1]))
    sums = np.empty((3, rows.shape[1]))
    sums[0] = len(rows)
    sums[1] = len(rows) * own[0]
    sums[2] = len(rows) * (own[1] + np.square(own[0]))
    add_up(sums)
    count = sums[0, 0]
    mean = sums[1] / max(count, 1.0)
    variance = np.maximum(sums[2] / max(count, 1.0) - np.square(mean), 0.0)
    return round(count), mean.astype(rows.dtype), variance.astype(rows.dtype)


@op
def layer_norm(
    x: np.ndarray,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    *,
    shape: tuple[int, ...],
    eps: float = 1e-5,
) -> Any:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axes (J. Ba, J. Kiros, G. Hinton, 2016).

    Args:
        x: (..., *shape).
        weight, bias: of this shape, or None for 1 and 0.
        shape: extents of the axes that are normalised over.
        eps: added to the variance.
    """
    extents = _check(x, tuple(shape), weight, bias)
    rows = dense(x).reshape(math.prod(x.shape[: x.ndim - len(extents)]), math.prod(extents))
    flat = rows.shape[1]
    w = np.ones(flat, x.dtype) if weight is None else dense(weight).reshape(flat)
    b = np.zeros(flat, x.dtype) if bias is None else dense(bias).reshape(flat)
    y, mean, inverse = memory.empty(rows.shape, x.dtype), np.empty(len(rows), x.dtype), np.empty(len(rows), x.dtype)
    norm.layer_norm(rows, w, b, float(eps), y, mean, inverse)

    def backward(dy: np.ndarray, wanted: Any) -> Any:
        dx, dweight, dbias = memory.empty(rows.shape, x.dtype), np.empty(flat), np.empty(flat)
        norm.layer_norm_backward(rows, dense(dy).reshape(rows.shape), w, mean, inverse, dx, dweight, dbias)
        parameters = (dweight.astype(x.dtype).reshape(extents), dbias.astype(x.dtype).reshape(extents))
        return (dx.reshape(x.shape), *parameters)[: len(wanted)]

    return y.reshape(x.shape), backward


def _check(
    x: np.ndarray, extents: tuple[int, ...], weight: np.ndarray | None, bias: np.ndarray | None
) -> tuple[int, ...]:
    """Return the extents that are normalised, after checking that all arrays have them."""
    check_float("x", x)
    if not extents or x.shape[x.ndim - len(extents) :] != extents:
        raise bad_shape("x", x, f"(..., {', '.join(map(str, extents)) or 'channels'})")
    for name, array in (("weight", weight), ("bias", bias)):
        if array is not None:
            check_like(name, array, x, extents, "the axes that are normalised")
    return extents
