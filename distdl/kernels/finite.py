"""Whether an array holds a NaN or an infinity, in one pass that allocates nothing."""

import numpy as np

from .registry import raw_kernel

# For words of four and of eight bytes: all bits but the sign, and infinity.
_SIGNLESS = {4: np.uint32(0x7FFFFFFF), 8: np.uint64(0x7FFFFFFFFFFFFFFF)}
_INFINITY = {4: 0x7F800000, 8: 0x7FF0000000000000}


def is_finite(array: np.ndarray) -> bool:
    """Say whether every element of an array of float32 or float64 is a finite number."""
    size = array.itemsize
    words = np.ascontiguousarray(array).reshape(-1).view(f"u{size}")
    # Without their signs, the bits of floats are ordered as their sizes are; infinity comes last, but for NaN.
    return int(greatest_word(words, _SIGNLESS[size])) < _INFINITY[size]


@raw_kernel
def greatest_word(words, mask):  # type: ignore[no-untyped-def]
    """The greatest of words & mask; 0 of none."""
    greatest = mask & ~mask
    for i in range(words.size):
        greatest = max(greatest, words[i] & mask)
    return greatest
