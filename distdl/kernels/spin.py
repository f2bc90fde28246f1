"""Waiting for a thread or rank without sleeping: a core that sleeps takes longer to wake than most kernels run."""

import platform
from typing import Any

from llvmlite import ir
from numba.core import types

from .simd import element_address, intrinsic

sched_yield: Any = types.ExternalFunction("sched_yield", types.int32())
"""Let others run on this core."""

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
