"""The hash of arrays, against its definition in plain Python."""

import numpy as np
import pytest

from distdl.kernels.fingerprint import fingerprint

PRIME, MASK = 0x100000001B3, (1 << 64) - 1


def by_the_definition(array, before=0):
    data = np.ascontiguousarray(array).tobytes()
    words = [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data) // 4 * 4, 4)]
    lanes = [0xCBF29CE484222325] * 8
    whole = len(words) // 8 * 8
    for i, word in enumerate(words):
        lane = i % 8 if i < whole else 0
        lanes[lane] = ((lanes[lane] ^ word) * PRIME) & MASK
    result = lanes[0]
    for lane in lanes[1:]:
        result = ((result ^ lane) * PRIME) & MASK
    for byte in (*data[len(words) * 4 :], len(data) & 0xFF):
        result = ((result ^ byte) * PRIME) & MASK
    result ^= before * PRIME & MASK
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        result = (result ^ result >> 33) * factor & MASK
    return result ^ result >> 33


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 31, 64, 1000])
def test_fingerprints_are_as_defined(dtype, size):
    """Any type and length, after any other, of arrays that are not contiguous too."""
    array = np.random.default_rng(size).normal(size=2 * size).astype(dtype)
    assert fingerprint(array) == by_the_definition(array)
    assert fingerprint(array[::2], 5) == by_the_definition(array[::2].copy(), 5)


def test_what_came_before_is_never_lost():
    """Whatever follows, another fingerprint before gives another one after, also in the low bits."""
    for array in (np.zeros(0), np.zeros(1, np.float32), np.ones(64, np.float32), np.array(7)):
        after = {fingerprint(array, 1 << bit) & 0xFFFFFFFF for bit in range(64)}
        assert len(after) == 64


def test_every_bit_counts():
    """A flip of any bit gives another fingerprint; so do zeros more, and another order."""
    array = np.random.default_rng(0).normal(size=13).astype(np.float32)
    words = array.view(np.uint32)
    found = {fingerprint(array)}
    for i in range(13):
        for bit in range(32):
            words[i] ^= np.uint32(1 << bit)
            found.add(fingerprint(array))
            words[i] ^= np.uint32(1 << bit)
    assert len(found) == 1 + 13 * 32
    assert fingerprint(np.zeros(8, np.float32)) != fingerprint(np.zeros(9, np.float32))
    assert fingerprint(array) != fingerprint(array[::-1])
