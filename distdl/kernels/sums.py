"""Sums over the rows of a matrix, taken in blocks: one long float32 sum drifts by 1e-5 and more."""

import numpy as np

from .registry import dense, kernel

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


def column_sums(x: np.ndarray) -> np.ndarray:
    """Return the sums over all axes but the last, in the type of x."""
    total = np.empty(x.shape[-1], np.float64)
    sum_rows(dense(x).reshape(-1, x.shape[-1]), total)
    return total.astype(x.dtype, copy=False)
