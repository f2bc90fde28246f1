"""Batch norm of float32 on vectors of channels; `norm.py` has it for other types.

Rows are taken in blocks that stay in the first-level cache: the mean of a block, then the squares around
it, join the totals by the rule for groups (T. Chan, G. Golub, R. LeVeque, 1979). No float32 sum is long, and
memory is read once.
"""

import numpy as np

from .norm import _moments, _norm_input, _norm_sums, _scale_columns
from .registry import kernel
from .simd import LANES, LOWEST, add, at_least, fill, fma, mul, sub, where_positive, zero
from .sums import BLOCK
from .tiles import get, put


def _batch_moments(x: np.ndarray, work: np.ndarray, mean: np.ndarray, squares: np.ndarray) -> None:
    _moments(x, mean, squares)
    squares *= len(x)


@kernel(reference=_batch_moments, types=("float32",), working=("work",))
def batch_moments(x, work, mean, squares):  # type: ignore[no-untyped-def]
    """The mean of each column of x (rows, columns), one row or more, and the sum of squares around it.

    mean, squares: float64 (columns,); work: (2 * 16,).
    """
    rows, columns = x.shape
    values = x.reshape(-1)
    for first in range(0, columns, LANES):
        lanes = min(LANES, columns - first)
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            at = start * columns + first
            even, odd = zero(), zero()
            for i in range(0, count - 1, 2):
                even = add(even, get(values, at + i * columns, lanes))
                odd = add(odd, get(values, at + (i + 1) * columns, lanes))
            if count % 2:
                even = add(even, get(values, at + (count - 1) * columns, lanes))
            centre = mul(add(even, odd), fill(np.float32(1 / count)))
            even, odd = zero(), zero()
            # What is left of the mean after rounding.
            rest = zero()
            for i in range(count):
                distance = sub(get(values, at + i * columns, lanes), centre)
                rest = add(rest, distance)
                even = fma(distance, distance, even)
            put(work, 0, add(centre, mul(rest, fill(np.float32(1 / count)))), LANES)
            put(work, LANES, add(even, odd), LANES)
            for lane in range(lanes):
                k = first + lane
                if start == 0:
                    mean[k], squares[k] = work[lane], work[LANES + lane]
                else:
                    change = work[lane] - mean[k]
                    share = count / (start + count)
                    mean[k] += change * share
                    squares[k] += work[LANES + lane] + change * change * start * share


def _batch_scale(
    x: np.ndarray, mean: np.ndarray, scale: np.ndarray, shift: np.ndarray, relu: bool, y: np.ndarray
) -> None:
    _scale_columns(x, mean, scale, shift, y)
    if relu:
        np.maximum(y, 0, out=y)


@kernel(reference=_batch_scale, types=("float32",))
def batch_scale(x, mean, scale, shift, relu, y):  # type: ignore[no-untyped-def]
    """y = (x - mean) * scale + shift, column by column, and 0 for negative results if `relu`."""
    rows, columns = x.shape
    values, results = x.reshape(-1), y.reshape(-1)
    floor = fill(np.float32(0) if relu else LOWEST)
    for start in range(0, rows, BLOCK):
        for first in range(0, columns, LANES):
            lanes = columns - first
            m, s, b = get(mean, first, lanes), get(scale, first, lanes), get(shift, first, lanes)
            for i in range(start, min(start + BLOCK, rows)):
                at = i * columns + first
                put(results, at, at_least(fma(sub(get(values, at, lanes), m), s, b), floor), lanes)


def _masked(
    x: np.ndarray, dy: np.ndarray, mean: np.ndarray, masked: bool, scale: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    return np.where((x - mean) * scale + shift > 0, dy, np.float32(0)) if masked else dy


def _batch_sums(
    x: np.ndarray,
    dy: np.ndarray,
    mean: np.ndarray,
    masked: bool,
    scale: np.ndarray,
    shift: np.ndarray,
    work: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
) -> None:
    _norm_sums(x, _masked(x, dy, mean, masked, scale, shift), mean, weight, bias)


@kernel(reference=_batch_sums, types=("float32",), working=("work",))
def batch_sums(x, dy, mean, masked, scale, shift, work, weight, bias):  # type: ignore[no-untyped-def]
    """weight = the sum over rows of dy * (x - mean), bias = that of dy.

    masked: dy counts only where `batch_scale` of x is positive. weight, bias: float64 (columns,);
    work: (2 * 16,).
    """
    rows, columns = x.shape
    values, gradients = x.reshape(-1), dy.reshape(-1)
    weight[:] = 0.0
    bias[:] = 0.0
    for start in range(0, rows, BLOCK):
        for first in range(0, columns, LANES):
            lanes = min(LANES, columns - first)
            m, s, b = get(mean, first, lanes), get(scale, first, lanes), get(shift, first, lanes)
            products, total = zero(), zero()
            for i in range(start, min(start + BLOCK, rows)):
                at = i * columns + first
                gradient, centred = get(gradients, at, lanes), sub(get(values, at, lanes), m)
                if masked:
                    gradient = where_positive(fma(centred, s, b), gradient)
                products = fma(gradient, centred, products)
                total = add(total, gradient)
            put(work, 0, products, LANES)
            put(work, LANES, total, LANES)
            for lane in range(lanes):
                weight[first + lane] += work[lane]
                bias[first + lane] += work[LANES + lane]


def _batch_input(
    x: np.ndarray,
    dy: np.ndarray,
    mean: np.ndarray,
    masked: bool,
    scale: np.ndarray,
    shift: np.ndarray,
    factor: np.ndarray,
    slope: np.ndarray,
    less: np.ndarray,
    dx: np.ndarray,
) -> None:
    _norm_input(x, _masked(x, dy, mean, masked, scale, shift), mean, factor, slope, less, dx)


@kernel(reference=_batch_input, types=("float32",))
def batch_input(x, dy, mean, masked, scale, shift, factor, slope, less, dx):  # type: ignore[no-untyped-def]
    """dx = factor * (dy - less - (x - mean) * slope), column by column; masked: as in `batch_sums`."""
    rows, columns = x.shape
    values, gradients, target = x.reshape(-1), dy.reshape(-1), dx.reshape(-1)
    for start in range(0, rows, BLOCK):
        for first in range(0, columns, LANES):
            lanes = columns - first
            m, s, b = get(mean, first, lanes), get(scale, first, lanes), get(shift, first, lanes)
            f, a, c = get(factor, first, lanes), get(slope, first, lanes), get(less, first, lanes)
            for i in range(start, min(start + BLOCK, rows)):
                at = i * columns + first
                gradient, centred = get(gradients, at, lanes), sub(get(values, at, lanes), m)
                if masked:
                    gradient = where_positive(fma(centred, s, b), gradient)
                put(target, at, mul(f, sub(sub(gradient, c), mul(centred, a))), lanes)
