"""Code of vectors as LLVM gets it: `builder` puts it where it stands.

For functions that kernels call (`simd.py`), and for code that is written at this level as a whole (`tile_code.py`).
Addresses are of float32, aligned to four bytes.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

LANES = 16

INT = ir.IntType(32)
FLOAT = ir.FloatType()
VECTOR = ir.VectorType(FLOAT, LANES)
MASK = ir.VectorType(ir.IntType(1), LANES)

_function: Callable[..., Any] = cgutils.get_or_insert_function


def emit_zero() -> Any:
    """Give a vector of zeros."""
    return ir.Constant(VECTOR, [0.0] * LANES)


def emit_spread(builder: Any, address: Any) -> Any:
    """Give a vector of the float at an address."""
    return splat(builder, builder.load(address), VECTOR)


def emit_load(builder: Any, address: Any) -> Any:
    """Give the sixteen floats at an address."""
    return builder.load(builder.bitcast(address, VECTOR.as_pointer()), align=4)


def emit_load_first(builder: Any, address: Any, count: Any) -> Any:
    """Give so many of them, and zeros in the lanes behind; nothing else is read."""
    return _load_where(builder, address, first_lanes(builder, count))


def emit_store(builder: Any, address: Any, vector: Any) -> None:
    """Write a vector to an address."""
    builder.store(vector, builder.bitcast(address, VECTOR.as_pointer()), align=4)


def emit_stream(builder: Any, address: Any, vector: Any) -> None:
    """Write a vector past the caches to an address that is a multiple of 64 bytes."""
    place = builder.bitcast(address, VECTOR.as_pointer())
    past = builder.module.add_metadata([ir.Constant(INT, 1)])
    builder.store(vector, place, align=4 * LANES).set_metadata("nontemporal", past)


def emit_store_first(builder: Any, address: Any, vector: Any, count: Any) -> None:
    """Write so many of its lanes."""
    place = builder.bitcast(address, VECTOR.as_pointer())
    _masked(builder, "store", ir.VoidType(), [vector, place, ir.Constant(INT, 4), first_lanes(builder, count)])


def emit_fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """Give x * y + z, rounded once."""
    function = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return builder.call(_function(builder.module, function, f"llvm.fma.v{LANES}f32"), [x, y, z])


def emit_at_least(builder: Any, x: Any, floor: Any) -> Any:
    """Give max(x, floor), and NaN where x is NaN."""
    return builder.select(builder.fcmp_ordered("<", x, floor), floor, x)


def emit_prefetch(builder: Any, address: Any) -> None:
    """Ask for the cache line of an address, which may be any: nothing is read."""
    place = builder.bitcast(address, ir.IntType(8).as_pointer())
    kinds = [ir.Constant(INT, 0), ir.Constant(INT, 3), ir.Constant(INT, 1)]
    function = ir.FunctionType(ir.VoidType(), [place.type, *[INT] * 3])
    builder.call(_function(builder.module, function, "llvm.prefetch.p0"), [place, *kinds])


def splat(builder: Any, value: Any, kind: Any) -> Any:
    """Give a vector of that type with one value in all lanes."""
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(INT, 0))
    lanes = ir.Constant(ir.VectorType(INT, LANES), [0] * LANES)
    return builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), lanes)


def first_lanes(builder: Any, count: Any) -> Any:
    """Return the mask of the lanes whose number is less than `count`."""
    integers = ir.VectorType(count.type, LANES)
    numbers = ir.Constant(integers, list(range(LANES)))
    return builder.icmp_signed("<", numbers, splat(builder, count, integers))


def _load_where(builder: Any, address: Any, mask: Any) -> Any:
    """Give the floats at an address in the lanes of a mask, zeros in the others; nothing else is read."""
    place = builder.bitcast(address, VECTOR.as_pointer())
    return _masked(builder, "load", VECTOR, [place, ir.Constant(INT, 4), mask, emit_zero()])


def _masked(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call LLVM's masked load or store."""
    function = ir.FunctionType(result, [argument.type for argument in arguments])
    name = f"llvm.masked.{name}.v{LANES}f32.p0"
    return builder.call(_function(builder.module, function, name), arguments)


def emit_transpose_whole(builder: Any, addresses: list[Any], targets: list[Any]) -> None:
    """Write column c of the sixteen rows at the addresses to targets[c]: rows that are four apart share a vector."""
    kind = ir.VectorType(FLOAT, 4)
    for first in range(0, LANES, 4):
        quarters = []
        for address in addresses:
            start = builder.gep(address, [ir.Constant(INT, first)])
            quarters.append(builder.load(builder.bitcast(start, kind.as_pointer()), align=4))
        vectors = [_join(builder, [quarters[row + step] for step in range(0, LANES, 4)]) for row in range(4)]
        for bit in (2, 1):
            vectors = _exchange(builder, vectors, bit)
        for target, vector in zip(targets[first : first + 4], vectors, strict=True):
            emit_store(builder, target, vector)


def _join(builder: Any, vectors: list[Any]) -> Any:
    """Return one vector of the lanes of several."""
    while len(vectors) > 1:
        lanes = ir.VectorType(INT, 2 * vectors[0].type.count)
        order = ir.Constant(lanes, list(range(lanes.count)))
        vectors = [builder.shuffle_vector(*vectors[k : k + 2], order) for k in range(0, len(vectors), 2)]
    return vectors[0]


def emit_transpose_part(builder: Any, addresses: list[Any], targets: list[Any], rows: Any, columns: Any) -> None:
    """Do the same for so many rows and columns; nothing else is read or written."""
    mask = first_lanes(builder, columns)
    none = ir.Constant(MASK, [0] * LANES)
    vectors = []
    for r, address in enumerate(addresses):
        inside = builder.select(builder.icmp_signed("<", ir.Constant(rows.type, r), rows), mask, none)
        vectors.append(_load_where(builder, address, inside))
    for bit in (8, 4, 2, 1):
        vectors = _exchange(builder, vectors, bit)
    for c, target in enumerate(targets):
        with builder.if_then(builder.icmp_signed("<", ir.Constant(columns.type, c), columns)):
            emit_store(builder, target, vectors[c])


def _exchange(builder: Any, vectors: list[Any], bit: int) -> list[Any]:
    """Exchange one bit of the numbers of vectors with that of the numbers of lanes."""
    result = list(vectors)
    lanes = ir.VectorType(INT, LANES)
    for low in range(len(vectors)):
        if low & bit:
            continue
        pair = vectors[low], vectors[low | bit]
        first = [lane if not lane & bit else LANES + (lane ^ bit) for lane in range(LANES)]
        second = [lane | bit if not lane & bit else LANES + lane for lane in range(LANES)]
        result[low] = builder.shuffle_vector(*pair, ir.Constant(lanes, first))
        result[low | bit] = builder.shuffle_vector(*pair, ir.Constant(lanes, second))
    return result
