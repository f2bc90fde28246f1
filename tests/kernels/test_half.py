"""Halves are the nearest there are, bit by bit."""

import numpy as np
import pytest

from distdl.kernels import half

EVERY_HALF = np.arange(1 << 16, dtype=np.uint16)


def decoded(kind, halves):
    total = np.empty(halves.size, np.float32)
    (half.sum_bfloat16 if kind == "bf16" else half.sum_float16)(halves.reshape(1, -1), total)
    return total


def encoded(kind, x):
    y = np.empty(x.size, np.uint16)
    (half.to_bfloat16 if kind == "bf16" else half.to_float16)(x, y)
    return y


def test_every_float16_is_that_of_numpy():
    """All 65,536 of them, subnormal ones, infinities and NaN included."""
    np.testing.assert_array_equal(decoded("fp16", EVERY_HALF), EVERY_HALF.view(np.float16).astype(np.float32))


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_every_half_comes_back(kind):
    """A half that becomes float32 and a half again is the same; a NaN is one still, of the same sign."""
    values = decoded(kind, EVERY_HALF)
    back = encoded(kind, values)
    is_nan = np.isnan(values)
    np.testing.assert_array_equal(back[~is_nan], EVERY_HALF[~is_nan])
    assert np.isnan(decoded(kind, back[is_nan])).all()
    np.testing.assert_array_equal(back[is_nan] >> 15, EVERY_HALF[is_nan] >> 15)


def between(kind):
    """Return float32 in the middle of each two halves, and their neighbours: where rounding turns."""
    greatest = 0x7F80 if kind == "bf16" else 0x7C00
    values = decoded(kind, EVERY_HALF[:greatest]).astype(np.float64)
    # Behind the greatest comes the infinity, as if it were the next.
    middles = (values + np.append(values[1:], 2 * values[-1] - values[-2])) / 2
    middles = middles.astype(np.float32)
    with np.errstate(over="ignore"):
        return np.concatenate([middles, *(np.nextafter(middles, np.float32(end)) for end in (0, np.inf))])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_rounding_is_to_the_nearest_and_of_two_to_the_even(kind, sign):
    """At the middle between any two halves, and beside it; what is beyond the greatest is an infinity."""
    x = np.float32(sign) * between(kind)
    found = encoded(kind, x)
    if kind == "fp16":
        with np.errstate(over="ignore"):
            expected = x.astype(np.float16).view(np.uint16)
    else:
        lower = np.minimum(np.abs(x).view(np.uint32) >> 16, 0x7F7F)
        below, above = (decoded("bf16", bits.astype(np.uint16)).astype(np.float64) for bits in (lower, lower + 1))
        # The infinity stands for the next power of two.
        above[np.isinf(above)] = 2.0**128
        size = np.abs(x.astype(np.float64))
        is_upper = (size - below > above - size) | ((size - below == above - size) & (lower % 2 == 1))
        expected = (lower + is_upper + np.where(x < 0, 0x8000, 0)).astype(np.uint16)
    np.testing.assert_array_equal(found, expected)


def test_sums_are_of_float32():
    """What is added up is rounded as float32 is, not as halves are."""
    rows = np.stack([encoded("bf16", np.full(3, 1.0, np.float32)), encoded("bf16", np.full(3, 2**-12, np.float32))])
    total = np.empty(3, np.float32)
    half.sum_bfloat16(rows, total)
    assert (total == 1 + 2**-12).all()
