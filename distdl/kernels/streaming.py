"""Results that are too large for the caches are written past them.

A plain store reads the cache line that it is about to overwrite: a quarter of what a large addition moves, and a third
of what a ReLU moves, is moved for nothing (Intel, "64 and IA-32 Architectures Optimization Reference Manual", on
streaming stores).
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from .cpu import LIKE_XEON
from .registry import helper, inlined
from .simd import intrinsic, stream
from .tiles import put

LEAST_BYTES = 1 << 21
"""Of results that are written so: the second cache of fourth and fifth generation Xeons, where it was measured."""

# Without AVX-512 this may cost more than it saves: desktop CPUs have a third cache of their own, which holds the result
# until it is read. So has AMD's Zen, 4 MiB a core: on Zen 5 a step of ResNet-20 took 3 to 5 % longer with it.
_PAYS = LIKE_XEON


@helper
def is_worth_streaming(nbytes):  # type: ignore[no-untyped-def]
    """Say whether a result of so many bytes is to be written past the caches."""
    return _PAYS and nbytes >= LEAST_BYTES


@helper
def is_streamed(y):  # type: ignore[no-untyped-def]
    """Say whether an array of float32 is to be written by `stream`: it is large, and begins where that is possible."""
    return is_worth_streaming(y.size * 4) and y.ctypes.data % 64 == 0


@inlined
def write(y, i, vector, lanes, streamed):  # type: ignore[no-untyped-def]
    """Do what `put` does; if `streamed`, i must be a multiple of 16, and the vector whole."""
    if streamed:
        stream(y, i, vector)
    else:
        put(y, i, vector, lanes)


@helper
def finish_writing(streamed):  # type: ignore[no-untyped-def]
    """Have what was streamed be seen by other threads and ranks before all that is written after."""
    if streamed:
        _fence()


@intrinsic
def _fence(typing: Any) -> Any:
    """The fence of x86 for streaming stores, which LLVM's own need not order; nothing where none are made."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if _PAYS:
            fence = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, fence, "llvm.x86.sse.sfence"), [])  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return types.void(), generate
