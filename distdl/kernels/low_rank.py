"""What PowerSGD does with thin matrices, beside products: orthonormal columns, and what a product leaves over.

Sums have one order, and what is rounded once is said: ranks on CPUs of different kinds get the same bits.
"""

import numpy as np

from .registry import kernel
from .simd import LANES, fma, spread, sub, zero
from .tiles import get, put

_DEPENDENT = 1e-6
"""A column of which so little is left, as a share of its length, is a sum of those before, but for rounding."""


def _orthogonalize(p: np.ndarray) -> None:
    for k in range(p.shape[1]):
        column, before = p[:, k].astype(np.float64), p[:, :k].astype(np.float64)
        length = np.sqrt((column**2).sum())
        for _ in range(2):
            column -= before @ (before.T @ column)
        left = np.sqrt((column**2).sum())
        p[:, k] = column / left if left > _DEPENDENT * length else 0


@kernel(reference=_orthogonalize, contract=False, types=("float32",))
def orthogonalize(p):  # type: ignore[no-untyped-def]
    """Make the columns of p (rows, columns) orthonormal, in place; a column that depends on those before becomes 0.

    Gram and Schmidt's way, with all before at once and twice, which is enough (L. Giraud, J. Langou, M. Rozložník,
    "The loss of orthogonality in the Gram-Schmidt orthogonalization process", 2005). Sums are of float64.
    """
    rows, columns = p.shape
    column, shares = np.empty(rows), np.empty(columns)
    for k in range(columns):
        length = 0.0
        for i in range(rows):
            column[i] = p[i, k]
            length += column[i] * column[i]
        for _ in range(2):
            shares[:k] = 0
            for i in range(rows):
                for j in range(k):
                    shares[j] += np.float64(p[i, j]) * column[i]
            for i in range(rows):
                for j in range(k):
                    column[i] -= shares[j] * np.float64(p[i, j])
        left = 0.0
        for i in range(rows):
            left += column[i] * column[i]
        length, left = np.sqrt(length), np.sqrt(left)
        factor = 1 / left if left > _DEPENDENT * length else 0.0
        for i in range(rows):
            p[i, k] = column[i] * factor


def _split_low_rank(p: np.ndarray, own: np.ndarray, total: np.ndarray, m: np.ndarray, left: np.ndarray) -> None:
    left[...] = m - p @ own
    m[...] = p @ total


@kernel(reference=_split_low_rank, types=("float32",))
def split_low_rank(p, own, total, m, left):  # type: ignore[no-untyped-def]
    """left = m - p own, then m = p total. p (rows, rank), own and total (rank, columns), m and left (rows, columns)."""
    rows, rank = p.shape
    columns = m.shape[1]
    factors, mine, everybodys = p.reshape(-1), own.reshape(-1), total.reshape(-1)
    matrix, rest = m.reshape(-1), left.reshape(-1)
    for i in range(rows):
        for j in range(0, columns, LANES):
            lanes = columns - j
            at = i * columns + j
            explained, result = zero(), zero()
            for k in range(rank):
                factor = spread(factors, i * rank + k)
                explained = fma(factor, get(mine, k * columns + j, lanes), explained)
                result = fma(factor, get(everybodys, k * columns + j, lanes), result)
            put(rest, at, sub(get(matrix, at, lanes), explained), lanes)
            put(matrix, at, result, lanes)
