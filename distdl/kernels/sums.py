"""Sums over the rows of a matrix, taken in blocks: one long float32 sum drifts by 1e-5 and more."""

import numpy as np

from .registry import dense, kernel
from .simd import LANES, add, zero
from .tiles import get, put

# So many rows are summed in the matrix's own type before they join the float64 sum.
BLOCK = 128


def _sum_rows(x: np.ndarray, total: np.ndarray) -> None:
    total[...] = x.sum(axis=0, dtype=np.float64)


@kernel(reference=_sum_rows)
def sum_rows(x, total):  # type: ignore[no-untyped-def]
    """total = the sum of the rows of x; x (rows, columns), total float64 (columns,)."""
    part = np.empty(x.shape[1], x.dtype)
    total[:] = 0.0
    for start in range(0, x.shape[0], BLOCK):
        part[:] = x.dtype.type(0)
        for i in range(start, min(start + BLOCK, x.shape[0])):
            for k in range(x.shape[1]):
                part[k] += x[i, k]
        for k in range(x.shape[1]):
            total[k] += part[k]


@kernel(reference=_sum_rows, types=("float32",))
def sum_narrow_rows(x, total):  # type: ignore[no-untyped-def]
    """total = the sum of the rows of x, of 32 columns or fewer: four rows at a time, whose sums do not wait."""
    rows, columns = x.shape
    values, part = x.reshape(-1), np.empty(LANES, np.float32)
    total[:] = 0.0
    for start in range(0, rows, BLOCK):
        end = min(start + BLOCK, rows)
        for k in range(0, columns, LANES):
            lanes = min(LANES, columns - k)
            a, b, c, d = zero(), zero(), zero(), zero()
            whole = end - (end - start) % 4
            for i in range(start, whole, 4):
                at = i * columns + k
                a, b = add(a, get(values, at, lanes)), add(b, get(values, at + columns, lanes))
                c, d = add(c, get(values, at + 2 * columns, lanes)), add(d, get(values, at + 3 * columns, lanes))
            for i in range(whole, end):
                a = add(a, get(values, i * columns + k, lanes))
            put(part, 0, add(add(a, b), add(c, d)), LANES)
            for lane in range(lanes):
                total[k + lane] += part[lane]


def column_sums(x: np.ndarray) -> np.ndarray:
    """Return the sums over all axes but the last, in the type of x."""
    total = np.empty(x.shape[-1], np.float64)
    narrow = x.dtype == np.float32 and x.shape[-1] <= 2 * LANES
    (sum_narrow_rows if narrow else sum_rows)(dense(x).reshape(-1, x.shape[-1]), total)
    return total.astype(x.dtype, copy=False)
