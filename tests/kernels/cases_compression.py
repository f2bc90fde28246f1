"""Arguments of the kernels that compress gradients: every kind of float, columns that depend on others."""

from typing import Any

import numpy as np

from .cases import SIZES, Draw, Generator, case, normal


def floats(rng: Generator, size: int) -> np.ndarray:
    """Draw any bits: all exponents, subnormal numbers, infinities and NaN."""
    return rng.integers(0, 1 << 32, size, np.uint32).view(np.float32)


@case
def to_bfloat16(rng: Generator, dtype: Any) -> Draw:
    for size in SIZES:
        yield floats(rng, size), np.empty(size, np.uint16)


@case
def to_float16(rng: Generator, dtype: Any) -> Draw:
    for size in SIZES:
        # NaN keep other bits in NumPy's.
        yield np.nan_to_num(floats(rng, size)), np.empty(size, np.uint16)
        yield 1e-5 * normal(rng, dtype, size), np.empty(size, np.uint16)


def halves(rng: Generator, greatest: int) -> Draw:
    """Yield rows of finite halves, with the sign in the uppermost bit, and room for their sum."""
    for size in SIZES:
        for rows in (1, 2, 5):
            signs = rng.integers(0, 2, (rows, size), np.uint16) << 15
            yield rng.integers(0, greatest, (rows, size), np.uint16) | signs, np.empty(size, np.float32)


@case
def sum_bfloat16(rng: Generator, dtype: Any) -> Draw:
    yield from halves(rng, 0x7E00)


@case
def sum_float16(rng: Generator, dtype: Any) -> Draw:
    yield from halves(rng, 0x7C00)


@case
def orthogonalize(rng: Generator, dtype: Any) -> Draw:
    for rows, columns in ((0, 2), (1, 1), (7, 4), (300, 5)):
        p = normal(rng, dtype, rows, columns) * dtype.type(1e-12)
        yield (p.copy(),)
        p[:, 1:] = p[:, :1]
        yield (p,)
    yield (np.zeros((9, 3), dtype),)


@case
def split_low_rank(rng: Generator, dtype: Any) -> Draw:
    for rows, columns, rank in ((1, 1, 1), (5, 16, 4), (7, 47, 3), (0, 4, 2), (40, 100, 20)):
        p, m = normal(rng, dtype, rows, rank), normal(rng, dtype, rows, columns)
        yield p, normal(rng, dtype, rank, columns), normal(rng, dtype, rank, columns), m, np.empty_like(m)


@case
def find_from(rng: Generator, dtype: Any) -> Draw:
    for size in SIZES:
        for least in (0, int(np.float32(1).view(np.uint32)), 0x7F800001):
            yield normal(rng, dtype, size), least, np.zeros(size, np.int32), np.zeros(1, np.int64)


@case
def add_at(rng: Generator, dtype: Any) -> Draw:
    for size in (1, 64, 1001):
        for count in (0, 1, 50):
            yield rng.integers(0, size, count).astype(np.int32), normal(rng, dtype, count), normal(rng, dtype, size)
