"""Vectors of sixteen float32 inside compiled code.

A loop of `load`, `fma` and `store` on vectors compiles to what it says, where the compiler's own
vectoriser may or may not see through. Sixteen lanes are one register under AVX-512, two under AVX2
and four under NEON: LLVM splits them. So arrays are laid out, and sums are ordered, alike on
every CPU. Loads and stores are unaligned (but `stream`), and check no bounds: shapes are checked before.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba.core import extending, types
from numba.core.datamodel import models
from numba.core.extending import register_model

from .vector_code import (
    LANES as LANES,
)
from .vector_code import (
    VECTOR,
    emit_at_least,
    emit_fma,
    emit_load,
    emit_load_first,
    emit_prefetch,
    emit_spread,
    emit_store,
    emit_store_first,
    emit_stream,
    emit_transpose_part,
    emit_transpose_whole,
    emit_zero,
    splat,
)

# What every float is at least.
LOWEST = np.float32(-np.inf)

# Numba calls them without the first argument, which tools cannot know.
intrinsic: Callable[[Callable[..., Any]], Any] = extending.intrinsic


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


float32x16: Any = cast(Any, _Vector)()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, VECTOR)  # type: ignore[no-untyped-call]


def data_of(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Return the address of the first element of an array of that type."""
    return context.make_array(kind)(context, builder, array).data


def element_address(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Return the address of element args[1] of the array args[0]."""
    return builder.gep(data_of(context, builder, signature.args[0], args[0]), [args[1]])


@intrinsic
def zero(typing: Any) -> Any:
    """Return a vector of zeros."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit_zero()

    return float32x16(), generate


@intrinsic
def fill(typing: Any, value: Any) -> Any:
    """Return a vector of one float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return splat(builder, args[0], VECTOR)

    return float32x16(types.float32), generate


@intrinsic
def spread(typing: Any, array: Any, i: Any) -> Any:
    """Return a vector of array[i]."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit_spread(builder, element_address(context, builder, signature, args))

    return float32x16(array, types.intp), generate


@intrinsic
def load(typing: Any, array: Any, i: Any) -> Any:
    """Return array[i : i + 16] of a contiguous array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit_load(builder, element_address(context, builder, signature, args))

    return float32x16(array, types.intp), generate


@intrinsic
def load_first(typing: Any, array: Any, i: Any, count: Any) -> Any:
    """Return array[i : i + count], and zeros in the lanes behind; nothing else is read."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit_load_first(builder, element_address(context, builder, signature, args), args[2])

    return float32x16(array, types.intp, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, i: Any, vector: Any) -> Any:
    """array[i : i + 16] = vector."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit_store(builder, element_address(context, builder, signature, args), args[2])
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x16), generate


@intrinsic
def stream(typing: Any, array: Any, i: Any, vector: Any) -> Any:
    """array[i : i + 16] = vector, past the caches; where it begins must be a multiple of 64 bytes.

    When others see it is told by `streaming.finish_writing`.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit_stream(builder, element_address(context, builder, signature, args), args[2])
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x16), generate


@intrinsic
def store_first(typing: Any, array: Any, i: Any, vector: Any, count: Any) -> Any:
    """array[i : i + count] = the first lanes of the vector."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit_store_first(builder, element_address(context, builder, signature, args), args[2], args[3])
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x16, types.intp), generate


@intrinsic
def fma(typing: Any, x: Any, y: Any, z: Any) -> Any:
    """Return x * y + z, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit_fma(builder, *args)

    return float32x16(float32x16, float32x16, float32x16), generate


def _binary(instruction: str) -> Any:
    @intrinsic
    def operation(typing: Any, x: Any, y: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(*args)

        return float32x16(float32x16, float32x16), generate

    return operation


add = _binary("fadd")
sub = _binary("fsub")
mul = _binary("fmul")


@intrinsic
def at_least(typing: Any, x: Any, floor: Any) -> Any:
    """Return max(x, floor), and NaN where x is NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit_at_least(builder, *args)

    return float32x16(float32x16, float32x16), generate


@intrinsic
def where_positive(typing: Any, y: Any, x: Any) -> Any:
    """Return x where y > 0, else 0: the gradient of a ReLU whose result is y."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zeros = emit_zero()
        return builder.select(builder.fcmp_ordered(">", args[0], zeros), args[1], zeros)

    return float32x16(float32x16, float32x16), generate


@intrinsic
def where_greater(typing: Any, value: Any, best: Any, x: Any, y: Any) -> Any:
    """Return x where value > best or value is NaN, else y."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        greater = builder.fcmp_ordered(">", args[0], args[1])
        return builder.select(builder.or_(greater, builder.fcmp_unordered("uno", args[0], args[0])), args[2], args[3])

    return float32x16(float32x16, float32x16, float32x16, float32x16), generate


@intrinsic
def where_equal(typing: Any, a: Any, b: Any, x: Any) -> Any:
    """Return x where a == b, else 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zeros = emit_zero()
        return builder.select(builder.fcmp_ordered("==", args[0], args[1]), args[2], zeros)

    return float32x16(float32x16, float32x16, float32x16), generate


@intrinsic
def prefetch(typing: Any, array: Any, i: Any) -> Any:
    """Ask for the cache line of array[i], which may lie outside the array: nothing is read."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit_prefetch(builder, element_address(context, builder, signature, args))
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def transpose(typing: Any, source: Any, i: Any, row: Any, rows: Any, columns: Any, target: Any, j: Any) -> Any:
    """target[j + 16 c + r] = source[i + row * r + c] for r < rows, c < columns (at most 16), and 0 for other r.

    Rounds of pairs exchange one bit of the row's number with one of the column's. Of whole blocks, four columns at
    a time are read, so that two rounds suffice.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data, into = (data_of(context, builder, signature.args[i], args[i]) for i in (0, 5))
        number = args[2].type
        addresses = []
        for r in range(LANES):
            offset = builder.add(args[1], builder.mul(args[2], ir.Constant(number, r)))
            addresses.append(builder.gep(data, [offset]))
        targets = [builder.gep(into, [builder.add(args[6], ir.Constant(number, LANES * c))]) for c in range(LANES)]
        are_whole = [builder.icmp_signed(">=", count, ir.Constant(number, LANES)) for count in args[3:5]]
        with builder.if_else(builder.and_(*are_whole)) as (whole, part):
            with whole:
                emit_transpose_whole(builder, addresses, targets)
            with part:
                emit_transpose_part(builder, addresses, targets, args[3], args[4])
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, types.intp, types.intp, target, types.intp), generate
