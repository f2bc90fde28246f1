"""The code of tiles, as LLVM gets it.

A tile is some dozens of sums in registers, and straight-line code for each. Numba takes a second to read it as Python,
for every kernel that uses it; written for LLVM it takes a tenth of that.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils

from .cpu import IS_WIDE, LIKE_XEON
from .vector_code import (
    LANES,
    emit_at_least,
    emit_fma,
    emit_load,
    emit_load_first,
    emit_prefetch,
    emit_spread,
    emit_store,
    emit_store_first,
    emit_zero,
)


class Given(NamedTuple):
    """What tiles are given (see `tiles.py`), arrays by the addresses of their first elements.

    None stands for what a kind of tile has not: `start`, `more` and `floor`, or `adds`.
    """

    a: Any
    a0: Any
    a_row: Any
    a_line: Any
    a_step: Any
    b: Any
    b0: Any
    b_next: Any
    b_step: Any
    lines: Any
    depth: Any
    start: Any
    more: Any
    c: Any
    c0: Any
    c_row: Any
    lanes: Any
    floor: Any
    adds: Any
    tiles: Any
    panels: Any


def constant(number: int) -> Any:
    """Give a number as indices are."""
    return ir.Constant(cgutils.intp_t, number)


def call_tiles(builder: Any, name: str, given: Given, rows: int, most_panels: int) -> None:
    """Call the function of that name of this module; the first time it is written."""
    values = [value for value in given if value is not None]
    function = builder.module.globals.get(name)
    if function is None:
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        function = ir.Function(builder.module, kind, name)
        if IS_WIDE and not LIKE_XEON:
            # LLVM orders instructions by its model of the CPU; that of Zen loads all values of a first, more than the
            # registers hold beside the sums: products ran at 115 of 245 GFLOP/s on Zen 5. llvmlite has no name for this
            # attribute, and where the function is called from one place alone, it could become part of the caller.
            set.add(function.attributes, '"tune-cpu"="sapphirerapids"')
            function.attributes.add("noinline")
        # Of this module alone: the linker takes the first of a name.
        function.linkage = "internal"
        arguments = iter(function.args)
        inner = Given(*(None if value is None else next(arguments) for value in given))
        _write(ir.IRBuilder(function.append_basic_block("entry")), inner, rows, most_panels)
    builder.call(function, values)


def _write(builder: Any, given: Given, rows: int, most_panels: int) -> None:
    if most_panels == 2:
        with builder.if_then(builder.icmp_signed("==", given.panels, constant(2))):
            _Tiles(builder, given, rows, 2).write()
            builder.ret_void()
    _Tiles(builder, given, rows, 1).write()
    builder.ret_void()


_keep: Callable[[Any, Any], Any] = cgutils.alloca_once_value


class _Tiles:
    """Writes the loop over tiles of so many rows and panels."""

    def __init__(self, builder: Any, given: Given, rows: int, panels: int):
        self._builder = builder
        self._given = given
        self._rows = range(rows)
        self._panels = range(panels)

    def write(self) -> None:
        builder, given = self._builder, self._given
        with cgutils.for_range(builder, given.tiles) as each:
            row = builder.mul(each.index, constant(len(self._rows)))
            a0 = builder.add(given.a0, builder.mul(row, given.a_row))
            c0 = builder.add(given.c0, builder.mul(row, given.c_row))
            places = [[self._address(given.c, c0, r, given.c_row, p) for r in self._rows] for p in self._panels]
            sums = self._start(places)
            self._accumulate(a0, sums)
            for before, place in zip(sums[:-1], places[:-1], strict=True):
                self._finish(before, place, emit_load, emit_store)
            with builder.if_else(builder.icmp_signed("==", given.lanes, constant(LANES))) as (whole, part):
                with whole:
                    self._finish(sums[-1], places[-1], emit_load, emit_store)
                with part:
                    self._finish(sums[-1], places[-1], self._load_first, self._store_first)

    def _start(self, places: list[list[Any]]) -> list[list[Any]]:
        """Return where the sum of each row of each panel is kept: LLVM makes registers of it."""
        builder, given = self._builder, self._given
        starts = [given.start, given.more]
        if given.start is None:
            starts = [emit_zero()] * 2
            # By the time that the sums are done, their place is in the cache.
            for row in zip(*places, strict=True):
                for place in row:
                    emit_prefetch(builder, place)
        return [[_keep(builder, starts[p]) for _ in self._rows] for p in self._panels]

    def _accumulate(self, a0: Any, sums: list[list[Any]]) -> None:
        builder, given = self._builder, self._given
        b_at = _keep(builder, given.b0)
        a_at = _keep(builder, a0)
        with cgutils.for_range(builder, given.lines) as line:
            builder.store(builder.add(a0, builder.mul(line.index, given.a_line)), a_at)
            with cgutils.for_range(builder, given.depth):
                at, row = builder.load(a_at), builder.load(b_at)
                columns = [emit_load(builder, self._address(given.b, row, p, given.b_next)) for p in self._panels]
                for r in self._rows:
                    value = emit_spread(builder, self._address(given.a, at, r, given.a_row))
                    for p in self._panels:
                        total = emit_fma(builder, value, columns[p], builder.load(sums[p][r]))
                        builder.store(total, sums[p][r])
                builder.store(builder.add(at, given.a_step), a_at)
                builder.store(builder.add(row, given.b_step), b_at)

    def _finish(self, sums: list[Any], places: list[Any], load: Callable[..., Any], store: Callable[..., None]) -> None:
        """Write the sums of a panel to their places."""
        builder, given = self._builder, self._given
        if given.adds is not None:
            with builder.if_then(given.adds):
                for kept, place in zip(sums, places, strict=True):
                    builder.store(builder.fadd(load(builder, place), builder.load(kept)), kept)
        for kept, place in zip(sums, places, strict=True):
            total = builder.load(kept)
            store(builder, place, total if given.floor is None else emit_at_least(builder, total, given.floor))

    def _load_first(self, builder: Any, address: Any) -> Any:
        return emit_load_first(builder, address, self._given.lanes)

    def _store_first(self, builder: Any, address: Any, vector: Any) -> None:
        emit_store_first(builder, address, vector, self._given.lanes)

    def _address(self, data: Any, start: Any, count: int, step: Any, panel: int = 0) -> Any:
        """Return the address of element start + count * step + 16 * panel."""
        builder = self._builder
        offset = builder.add(start, builder.mul(constant(count), step))
        return builder.gep(data, [builder.add(offset, constant(LANES * panel))])
