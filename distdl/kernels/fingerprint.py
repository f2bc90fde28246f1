"""A hash of arrays that is fast rather than cryptographic: it tells replicas that have drifted apart."""

import numpy as np

from .registry import raw_kernel

_PRIME = 0x100000001B3
_OFFSET = 0xCBF29CE484222325
_MASK = (1 << 64) - 1


def fingerprint(array: np.ndarray, before: int = 0) -> int:
    """Return 64 bits that depend on every bit of an array, and on `before`, the fingerprint of the arrays before it.

    FNV-1a (G. Fowler, L. Noll, P. Vo) on words of 32 bits, in eight lanes. Each step is one-to-one in what it gets, so
    that a change of one word, or of what came before, always changes the result.
    """
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = data.size // 4 * 4
    result = int(hash_words(data[:whole].view(np.uint32) if whole else np.zeros(0, np.uint32)))
    for byte in (*data[whole:].tolist(), data.size & 0xFF):
        result = ((result ^ byte) * _PRIME) & _MASK
    return _mix((before * _PRIME & _MASK) ^ result)


def _mix(value: int) -> int:
    """Let every bit depend on all: FNV carries changes upwards only (fmix64 of A. Appleby's MurmurHash3)."""
    value ^= value >> 33
    value = value * 0xFF51AFD7ED558CCD & _MASK
    value ^= value >> 33
    value = value * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ value >> 33


@raw_kernel
def hash_words(words):  # type: ignore[no-untyped-def]
    """FNV-1a on a flat array of uint32: word i goes to lane i % 8, and lanes are hashed last."""
    prime, offset = np.uint64(_PRIME), np.uint64(_OFFSET)
    a = b = c = d = e = f = g = h = offset
    whole = words.size // 8 * 8
    for i in range(0, whole, 8):
        a = (a ^ np.uint64(words[i])) * prime
        b = (b ^ np.uint64(words[i + 1])) * prime
        c = (c ^ np.uint64(words[i + 2])) * prime
        d = (d ^ np.uint64(words[i + 3])) * prime
        e = (e ^ np.uint64(words[i + 4])) * prime
        f = (f ^ np.uint64(words[i + 5])) * prime
        g = (g ^ np.uint64(words[i + 6])) * prime
        h = (h ^ np.uint64(words[i + 7])) * prime
    for i in range(whole, words.size):
        a = (a ^ np.uint64(words[i])) * prime
    for lane in (b, c, d, e, f, g, h):
        a = (a ^ lane) * prime
    return a
