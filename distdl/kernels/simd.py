"""Vectors of sixteen float32 inside compiled code.

A loop of `load`, `fma` and `store` on vectors compiles to what it says, where the compiler's own
vectoriser may or may not see through. Sixteen lanes are one register under AVX-512, two under AVX2
and four under NEON: LLVM splits them. So arrays are laid out, and sums are ordered, alike on
every CPU. Loads and stores are unaligned, and check no bounds: shapes are checked before.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba.core import cgutils, extending, types
from numba.core.datamodel import models
from numba.core.extending import register_model

LANES = 16

# What every float is at least.
LOWEST = np.float32(-np.inf)

_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)


# Numba calls them without the first argument, which tools cannot know.
intrinsic: Callable[[Callable[..., Any]], Any] = extending.intrinsic


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


float32x16: Any = cast(Any, _Vector)()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VECTOR)  # type: ignore[no-untyped-call]


def element_address(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Return the address of element args[1] of the array args[0]."""
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


def _splat(builder: Any, value: Any, kind: Any) -> Any:
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_INT, 0))
    lanes = ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES)
    return builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), lanes)


def _first(builder: Any, count: Any) -> Any:
    """Return the mask of the lanes whose number is less than `count`."""
    integers = ir.VectorType(count.type, LANES)
    numbers = ir.Constant(integers, list(range(LANES)))
    return builder.icmp_signed("<", numbers, _splat(builder, count, integers))


_function: Callable[..., Any] = cgutils.get_or_insert_function


def _masked(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    function = ir.FunctionType(result, [argument.type for argument in arguments])
    name = f"llvm.masked.{name}.v{LANES}f32.p0"
    return builder.call(_function(builder.module, function, name), arguments)


@intrinsic
def zero(typing: Any) -> Any:
    """Return a vector of zeros."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(_VECTOR, [0.0] * LANES)

    return float32x16(), generate


@intrinsic
def fill(typing: Any, value: Any) -> Any:
    """Return a vector of one float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, args[0], _VECTOR)

    return float32x16(types.float32), generate


@intrinsic
def spread(typing: Any, array: Any, i: Any) -> Any:
    """Return a vector of array[i]."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, builder.load(element_address(context, builder, signature, args)), _VECTOR)

    return float32x16(array, types.intp), generate


@intrinsic
def load(typing: Any, array: Any, i: Any) -> Any:
    """Return array[i : i + 16] of a contiguous array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = builder.bitcast(element_address(context, builder, signature, args), _VECTOR.as_pointer())
        return builder.load(address, align=4)

    return float32x16(array, types.intp), generate


@intrinsic
def load_first(typing: Any, array: Any, i: Any, count: Any) -> Any:
    """Return array[i : i + count], and zeros in the lanes behind; nothing else is read."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = builder.bitcast(element_address(context, builder, signature, args), _VECTOR.as_pointer())
        zeros = ir.Constant(_VECTOR, [0.0] * LANES)
        return _masked(builder, "load", _VECTOR, [address, ir.Constant(_INT, 4), _first(builder, args[2]), zeros])

    return float32x16(array, types.intp, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, i: Any, vector: Any) -> Any:
    """array[i : i + 16] = vector."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = builder.bitcast(element_address(context, builder, signature, args), _VECTOR.as_pointer())
        builder.store(args[2], address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x16), generate


@intrinsic
def store_first(typing: Any, array: Any, i: Any, vector: Any, count: Any) -> Any:
    """array[i : i + count] = the first lanes of the vector."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = builder.bitcast(element_address(context, builder, signature, args), _VECTOR.as_pointer())
        mask = _first(builder, args[3])
        _masked(builder, "store", ir.VoidType(), [args[2], address, ir.Constant(_INT, 4), mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x16, types.intp), generate


@intrinsic
def fma(typing: Any, x: Any, y: Any, z: Any) -> Any:
    """Return x * y + z, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        return builder.call(_function(builder.module, function, f"llvm.fma.v{LANES}f32"), args)

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
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[1], args[0])

    return float32x16(float32x16, float32x16), generate


@intrinsic
def where_positive(typing: Any, y: Any, x: Any) -> Any:
    """Return x where y > 0, else 0: the gradient of a ReLU whose result is y."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zeros = ir.Constant(_VECTOR, [0.0] * LANES)
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
        zeros = ir.Constant(_VECTOR, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered("==", args[0], args[1]), args[2], zeros)

    return float32x16(float32x16, float32x16, float32x16), generate


@intrinsic
def prefetch(typing: Any, array: Any, i: Any) -> Any:
    """Ask for the cache line of array[i], which may lie outside the array: nothing is read."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = builder.bitcast(element_address(context, builder, signature, args), ir.IntType(8).as_pointer())
        kinds = [ir.Constant(_INT, 0), ir.Constant(_INT, 3), ir.Constant(_INT, 1)]
        function = ir.FunctionType(ir.VoidType(), [address.type, *[_INT] * 3])
        builder.call(_function(builder.module, function, "llvm.prefetch.p0"), [address, *kinds])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def transpose(typing: Any, source: Any, i: Any, row: Any, rows: Any, columns: Any, target: Any, j: Any) -> Any:
    """target[j + 16 c + r] = source[i + row * r + c] for r < rows, c < columns (at most 16), and 0 for other r.

    Rounds of pairs exchange one bit of the row's number with one of the column's. Of whole blocks, four columns at
    a time are read, so that two rounds suffice.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        into = context.make_array(signature.args[5])(context, builder, args[5])
        number = args[2].type
        addresses = []
        for r in range(LANES):
            offset = builder.add(args[1], builder.mul(args[2], ir.Constant(number, r)))
            addresses.append(builder.gep(array.data, [offset]))
        targets = [builder.gep(into.data, [builder.add(args[6], ir.Constant(number, LANES * c))]) for c in range(LANES)]
        are_whole = [builder.icmp_signed(">=", count, ir.Constant(number, LANES)) for count in args[3:5]]
        with builder.if_else(builder.and_(*are_whole)) as (whole, part):
            with whole:
                _transpose_whole(builder, addresses, targets)
            with part:
                _transpose_part(builder, addresses, targets, args[3], args[4])
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, types.intp, types.intp, target, types.intp), generate


def _transpose_whole(builder: Any, addresses: list[Any], targets: list[Any]) -> None:
    """Write column c of the sixteen rows at the addresses to targets[c]: rows that are four apart share a vector."""
    kind = ir.VectorType(_FLOAT, 4)
    for first in range(0, LANES, 4):
        quarters = []
        for address in addresses:
            start = builder.gep(address, [ir.Constant(_INT, first)])
            quarters.append(builder.load(builder.bitcast(start, kind.as_pointer()), align=4))
        vectors = [_join(builder, [quarters[row + step] for step in range(0, LANES, 4)]) for row in range(4)]
        for bit in (2, 1):
            vectors = _exchange(builder, vectors, bit)
        for target, vector in zip(targets[first : first + 4], vectors, strict=True):
            builder.store(vector, builder.bitcast(target, _VECTOR.as_pointer()), align=4)


def _join(builder: Any, vectors: list[Any]) -> Any:
    """Return one vector of the lanes of several."""
    while len(vectors) > 1:
        lanes = ir.VectorType(_INT, 2 * vectors[0].type.count)
        order = ir.Constant(lanes, list(range(lanes.count)))
        vectors = [builder.shuffle_vector(*vectors[k : k + 2], order) for k in range(0, len(vectors), 2)]
    return vectors[0]


def _transpose_part(builder: Any, addresses: list[Any], targets: list[Any], rows: Any, columns: Any) -> None:
    """Do the same for so many rows and columns; nothing else is read or written."""
    zeros = ir.Constant(_VECTOR, [0.0] * LANES)
    mask = _first(builder, columns)
    none = ir.Constant(_MASK, [0] * LANES)
    vectors = []
    for r, address in enumerate(addresses):
        inside = builder.select(builder.icmp_signed("<", ir.Constant(rows.type, r), rows), mask, none)
        address = builder.bitcast(address, _VECTOR.as_pointer())
        vectors.append(_masked(builder, "load", _VECTOR, [address, ir.Constant(_INT, 4), inside, zeros]))
    for bit in (8, 4, 2, 1):
        vectors = _exchange(builder, vectors, bit)
    for c, target in enumerate(targets):
        with builder.if_then(builder.icmp_signed("<", ir.Constant(columns.type, c), columns)):
            builder.store(vectors[c], builder.bitcast(target, _VECTOR.as_pointer()), align=4)


def _exchange(builder: Any, vectors: list[Any], bit: int) -> list[Any]:
    """Exchange one bit of the numbers of vectors with that of the numbers of lanes."""
    result = list(vectors)
    lanes = ir.VectorType(_INT, LANES)
    for low in range(len(vectors)):
        if low & bit:
            continue
        pair = vectors[low], vectors[low | bit]
        first = [lane if not lane & bit else LANES + (lane ^ bit) for lane in range(LANES)]
        second = [lane | bit if not lane & bit else LANES + lane for lane in range(LANES)]
        result[low] = builder.shuffle_vector(*pair, ir.Constant(lanes, first))
        result[low | bit] = builder.shuffle_vector(*pair, ir.Constant(lanes, second))
    return result
