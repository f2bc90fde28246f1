"""Float32 as bfloat16 or float16 and back, sixteen bits in uint16, rounded to the nearest, ties to even.

In integers throughout, since not every CPU or compiler has these types; no element has a branch, so that loops become
vectors.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from .registry import helper, kernel
from .simd import intrinsic

_SIGN = np.uint32(0x8000)
_BIASES = np.uint32(0x38000000)
"""The difference of the exponents' biases of float32 and float16, 127 - 15, where float32 has its exponent."""


@intrinsic
def _as_float(typing: Any, bits: Any) -> Any:
    """Return the float32 with these bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), generate


def _round_bits(bits: np.ndarray, dropped: Any) -> np.ndarray:
    """Drop so many of the lowest bits of unsigned integers, to the nearest, ties to even."""
    kept = bits >> dropped
    rest, middle = bits - (kept << dropped), np.uint64(1) << (dropped - np.uint64(1))
    rounded: np.ndarray = kept + ((rest > middle) | ((rest == middle) & (kept & 1 == 1)))
    return rounded


def _to_bfloat16(x: np.ndarray, y: np.ndarray) -> None:
    bits = x.view(np.uint32)
    rounded = _round_bits(bits.astype(np.uint64), np.uint64(16)).astype(np.uint16)
    y[...] = np.where(np.isnan(x), bits >> 16 | 0x40, rounded)


@kernel(reference=_to_bfloat16, types=("float32",))
def to_bfloat16(x, y):  # type: ignore[no-untyped-def]
    """y = x rounded; what is beyond the greatest becomes an infinity, a NaN stays one. Both flat, y of uint16."""
    words = x.view(np.uint32)
    for i in range(words.size):
        word = words[i]
        rounded = np.uint32(word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1)))
        quiet = word | np.uint32(0x400000)
        chosen = quiet if word & np.uint32(0x7FFFFFFF) > np.uint32(0x7F800000) else rounded
        y[i] = np.uint16(chosen >> np.uint32(16))


def _sum_bfloat16(rows: np.ndarray, total: np.ndarray) -> None:
    total[...] = 0
    for row in rows:
        total += (row.astype(np.uint32) << 16).view(np.float32)


@kernel(reference=_sum_bfloat16, types=("float32",))
def sum_bfloat16(rows, total):  # type: ignore[no-untyped-def]
    """total = the sum of the rows, one after another, in float32. rows (n, size) of uint16, n > 0; total (size,)."""
    for i in range(total.size):
        total[i] = _as_float(np.uint32(np.uint32(rows[0, i]) << np.uint32(16)))
    for r in range(1, rows.shape[0]):
        for i in range(total.size):
            total[i] += _as_float(np.uint32(np.uint32(rows[r, i]) << np.uint32(16)))


def _to_float16(x: np.ndarray, y: np.ndarray) -> None:
    with np.errstate(over="ignore", under="ignore"):
        y[...] = x.astype(np.float16).view(np.uint16)


@kernel(reference=_to_float16, types=("float32",))
def to_float16(x, y):  # type: ignore[no-untyped-def]
    """y = x rounded; what is beyond the greatest (65,504) becomes an infinity, a NaN stays one. See `to_bfloat16`."""
    words = x.view(np.uint32)
    one = np.uint32(1)
    for i in range(words.size):
        word = words[i]
        size = word & np.uint32(0x7FFFFFFF)
        normal = np.uint32(size - _BIASES + np.uint32(0xFFF) + ((size >> np.uint32(13)) & one)) >> np.uint32(13)
        # Below 2 ** -14 in units of 2 ** -24; what is shifted by 25 is less than half of one.
        exponent = size >> np.uint32(23)
        dropped = np.uint32(min(max(np.uint32(126) - min(exponent, np.uint32(112)), np.uint32(14)), np.uint32(25)))
        mantissa = (size & np.uint32(0x7FFFFF)) | np.uint32(0x800000)
        kept = mantissa >> dropped
        rest, middle = np.uint32(mantissa - (kept << dropped)), np.uint32(one << (dropped - one))
        subnormal = kept + np.uint32((rest > middle) | ((rest == middle) & (kept & one == one)))
        half = normal if size >= np.uint32(0x38800000) else subnormal
        half = half if size < np.uint32(0x477FF000) else np.uint32(0x7C00)
        half = half if size <= np.uint32(0x7F800000) else np.uint32(0x7E00)
        y[i] = np.uint16(half | (word >> np.uint32(16)) & _SIGN)


def _sum_float16(rows: np.ndarray, total: np.ndarray) -> None:
    total[...] = 0
    for row in rows:
        total += row.view(np.float16)


@helper
def _half_value(half):  # type: ignore[no-untyped-def]
    """Return the float32 of a float16."""
    size = np.uint32(half) & np.uint32(0x7FFF)
    bits = np.uint32(np.uint32(size << np.uint32(13)) + _BIASES)
    # Infinities and NaN have the greatest exponent of both.
    bits = np.uint32(bits + _BIASES) if size >= np.uint32(0x7C00) else bits
    # By a product of ordinary numbers: CPUs take long for subnormal ones.
    value = _as_float(bits) if size >= np.uint32(0x400) else np.float32(np.int32(size)) * np.float32(2.0**-24)
    return -value if np.uint32(half) & _SIGN else value


@kernel(reference=_sum_float16, types=("float32",))
def sum_float16(rows, total):  # type: ignore[no-untyped-def]
    """total = the sum of the rows; see `sum_bfloat16`."""
    for i in range(total.size):
        total[i] = _half_value(rows[0, i])
    for r in range(1, rows.shape[0]):
        for i in range(total.size):
            total[i] += _half_value(rows[r, i])
