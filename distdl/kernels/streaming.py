"""Results that are too large for the caches are written past them.

A plain store reads the cache line that it is about to overwrite, so that a third of what a large addition moves is
moved for nothing. (Intel, "64 and IA-32 Architectures Optimization Reference Manual", on streaming stores.)
"""

from .registry import helper, inlined
from .simd import fence, store, stream
from .tiles import CPU_KIND

LEAST_BYTES = 1 << 21
"""Of results that are written so: the second cache of the CPUs with AVX-512 that were measured."""

# On others it may cost more than it saves: a third cache of their own may hold the result until it is read.
_IS_KNOWN = CPU_KIND == "avx512"


@helper
def is_streamed(y):  # type: ignore[no-untyped-def]
    """Say whether an array of float32 is to be written by `stream`: it is large, and begins where that is possible."""
    return _IS_KNOWN and y.size * 4 >= LEAST_BYTES and y.ctypes.data % 64 == 0


@inlined
def write(y, i, vector, streamed):  # type: ignore[no-untyped-def]
    """y[i : i + 16] = vector; i a multiple of 16 if `streamed`."""
    if streamed:
        stream(y, i, vector)
    else:
        store(y, i, vector)


@helper
def finish_writing(streamed):  # type: ignore[no-untyped-def]
    """Have other threads and ranks see what was written."""
    if streamed:
        fence()
