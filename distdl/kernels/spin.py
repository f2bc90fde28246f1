"""Waiting for a thread or rank without sleeping: a core that sleeps takes longer to wake than most kernels run."""

import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from .compile import jit
from .simd import element_address, intrinsic

_HAS_PAUSE = platform.machine() in ("x86_64", "AMD64")


@intrinsic
def look(typing: Any, array: Any, i: Any) -> Any:
    """Return array[i] as it is now, whoever has written it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(element_address(context, builder, signature, args), "acquire", 8)

    return types.int64(array, types.intp), generate


@intrinsic
def tell(typing: Any, array: Any, i: Any, value: Any) -> Any:
    """Set array[i], an int64: whoever sees it sees all that was written before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], element_address(context, builder, signature, args), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), generate


@intrinsic
def pause(typing: Any) -> Any:
    """Leave the core's units to others for some cycles."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if _HAS_PAUSE:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), kind), [])
        return context.get_dummy_value()

    return types.void(), generate


@jit
def changes(count: np.ndarray, seen: int, looks: int, rest: int) -> bool:
    """Look at count[0], an int64, up to so many times, and return whether it was anything but `seen`.

    It then rests for as long as so many looks take: who has changed it still holds the interpreter's lock for some
    microseconds, and a thread that meets a lock that is held is put to sleep for some ten.
    """
    for _ in range(looks):
        if look(count, 0) != seen:
            for _ in range(rest):
                pause()
            return True
        pause()
    return False
