"""Batch norm of float32 on vectors of channels; `norm.py` has it for other types.

Moments are taken in one reading, around the mean of some rows: however bad that guess, the rows that it comes
from bound what is lost by it. Sums are float32 over 128 rows, and float64 beyond.
"""

import numpy as np

from .norm import _moments, _norm_input, _norm_sums, _scale_columns
from .registry import helper, inlined, kernel
from .simd import LANES, LOWEST, add, at_least, fill, fma, mul, sub, where_positive, zero
from .streaming import finish_writing, is_streamed, write
from .sums import BLOCK
from .tiles import get, put


def _batch_moments(x: np.ndarray, work: np.ndarray, mean: np.ndarray, squares: np.ndarray) -> None:
    _moments(x, mean, squares)
    squares *= len(x)


# So many values are worked on vector by vector: what lies beyond the caches is fetched ahead only in its order.
_STRIP = 256

# Rows whose mean is the first guess.
_SAMPLES = 64


@helper
def _strip(columns):  # type: ignore[no-untyped-def]
    """Return how many rows are worked on vector by vector."""
    return BLOCK if columns <= LANES else max(4, _STRIP // columns)


@inlined
def _guess(values, start, rows, columns, lanes):  # type: ignore[no-untyped-def]
    """Return the mean of rows that are spread evenly."""
    step = (rows + _SAMPLES - 1) // _SAMPLES
    total = zero()
    for i in range(0, rows, step):
        total = add(total, get(values, start + i * columns, lanes))
    return mul(total, fill(np.float32(1 / ((rows + step - 1) // step))))


@kernel(reference=_batch_moments, types=("float32",), working=("work",))
def batch_moments(x, work, mean, squares):  # type: ignore[no-untyped-def]
    """The mean of each column of x (rows, columns), one row or more, and the sum of squares around it.

    mean, squares: float64 (columns,); work: (3 * columns,).
    """
    values = x.reshape(-1)
    begin_moments(values, 0, x.shape[0], work, mean, squares)
    add_moments(values, 0, x.shape[0], work, mean, squares)
    finish_moments(x.shape[0], work, mean, squares)


@helper
def begin_moments(values, start, rows, work, mean, squares):  # type: ignore[no-untyped-def]
    """Clear the sums, and guess the mean from these rows, whose elements begin at `start`."""
    columns = mean.size
    mean[:] = 0.0
    squares[:] = 0.0
    for k in range(0, columns, LANES):
        put(work, k, _guess(values, start + k, rows, columns, columns - k), columns - k)


@helper
def add_moments(values, start, rows, work, mean, squares):  # type: ignore[no-untyped-def]
    """Add distances of rows from the guess, and their squares, to the sums."""
    columns = mean.size
    height = _strip(columns)
    for first in range(0, rows, BLOCK):
        work[columns:] = np.float32(0)
        end = min(first + BLOCK, rows)
        for top in range(first, end, height):
            _add_strip(values, start, top, min(top + height, end), columns, work)
        for k in range(columns):
            mean[k] += work[columns + k]
            squares[k] += work[2 * columns + k]


@helper
def finish_moments(rows, work, mean, squares):  # type: ignore[no-untyped-def]
    """Turn the sums over so many rows to their mean, and the sum of squares around it."""
    for k in range(mean.size):
        change = mean[k] / rows
        squares[k] -= change * mean[k]
        mean[k] = work[k] + change


@helper
def _add_strip(values, start, top, bottom, columns, work):  # type: ignore[no-untyped-def]
    """Add distances from the guess, and their squares, to the sums behind it in `work`."""
    for k in range(0, columns, LANES):
        lanes = columns - k
        centre = get(work, k, lanes)
        even, squares = get(work, columns + k, lanes), get(work, 2 * columns + k, lanes)
        # Two sums do not wait for each other.
        odd, more = zero(), zero()
        for i in range(top, bottom - 1, 2):
            at = start + i * columns + k
            distance = sub(get(values, at, lanes), centre)
            even, squares = add(even, distance), fma(distance, distance, squares)
            distance = sub(get(values, at + columns, lanes), centre)
            odd, more = add(odd, distance), fma(distance, distance, more)
        if (bottom - top) % 2 == 1:
            distance = sub(get(values, start + (bottom - 1) * columns + k, lanes), centre)
            even, squares = add(even, distance), fma(distance, distance, squares)
        put(work, columns + k, add(even, odd), lanes)
        put(work, 2 * columns + k, add(squares, more), lanes)


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
    streamed = columns % LANES == 0 and is_streamed(results)
    height = _strip(columns)
    for start in range(0, rows, height):
        for first in range(0, columns, LANES):
            lanes = columns - first
            m, s, b = get(mean, first, lanes), get(scale, first, lanes), get(shift, first, lanes)
            for i in range(start, min(start + height, rows)):
                at = i * columns + first
                result = at_least(fma(sub(get(values, at, lanes), m), s, b), floor)
                write(results, at, result, lanes, streamed)
    finish_writing(streamed)


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
    work: (2 * columns,) or more.
    """
    rows, columns = x.shape
    values, gradients = x.reshape(-1), dy.reshape(-1)
    weight[:] = 0.0
    bias[:] = 0.0
    height = _strip(columns)
    for start in range(0, rows, BLOCK):
        work[:] = np.float32(0)
        end = min(start + BLOCK, rows)
        for top in range(start, end, height):
            _add_sums(values, gradients, top, min(top + height, end), mean, masked, scale, shift, work)
        for k in range(columns):
            weight[k] += work[k]
            bias[k] += work[columns + k]


@helper
def _add_sums(values, gradients, top, bottom, mean, masked, scale, shift, work):  # type: ignore[no-untyped-def]
    columns = mean.size
    for k in range(0, columns, LANES):
        lanes = columns - k
        m, s, b = get(mean, k, lanes), get(scale, k, lanes), get(shift, k, lanes)
        products, total = get(work, k, lanes), get(work, columns + k, lanes)
        for i in range(top, bottom):
            at = i * columns + k
            gradient, centred = get(gradients, at, lanes), sub(get(values, at, lanes), m)
            if masked:
                gradient = where_positive(fma(centred, s, b), gradient)
            products = fma(gradient, centred, products)
            total = add(total, gradient)
        put(work, k, products, lanes)
        put(work, columns + k, total, lanes)


def _batch_input(x: np.ndarray, dy: np.ndarray, masked: bool, norm: np.ndarray, dx: np.ndarray) -> None:
    mean, scale, shift, slope, less = norm
    _norm_input(x, _masked(x, dy, mean, masked, scale, shift), mean, scale, slope, less, dx)


@kernel(reference=_batch_input, types=("float32",))
def batch_input(x, dy, masked, norm, dx):  # type: ignore[no-untyped-def]
    """dx = scale * (dy - less - (x - mean) * slope), column by column.

    masked: as in `batch_sums`; norm: mean, scale, shift, slope and less, (5, columns).
    """
    input_rows(x.reshape(-1), dy.reshape(-1), 0, x.shape[0], masked, norm, dx.reshape(-1))


@helper
def input_rows(values, gradients, start, rows, masked, norm, target):  # type: ignore[no-untyped-def]
    """Write the input gradient of so many rows, whose elements begin at `start`, to the beginning of `target`."""
    columns = norm.shape[1]
    table = norm.reshape(-1)
    height = _strip(columns)
    for top in range(0, rows, height):
        for first in range(0, columns, LANES):
            lanes = columns - first
            m, s = get(table, first, lanes), get(table, columns + first, lanes)
            b = get(table, 2 * columns + first, lanes)
            a, c = get(table, 3 * columns + first, lanes), get(table, 4 * columns + first, lanes)
            for i in range(top, min(top + height, rows)):
                to = i * columns + first
                gradient, centred = get(gradients, start + to, lanes), sub(get(values, start + to, lanes), m)
                if masked:
                    gradient = where_positive(fma(centred, s, b), gradient)
                put(target, to, mul(s, sub(sub(gradient, c), mul(centred, a))), lanes)
