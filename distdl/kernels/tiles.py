"""The innermost loop of every matrix product and convolution: a tile of sums that stays in registers.

A tile is `rows` results by sixteen columns, a panel, one vector a row; or by two panels, side by side, where
there are registers for it (`PANELS`): each value of a is then spread for two multiplications, and loads are no
longer what limits. Sums run over the depth in one fixed order, each in its own lane, so a result depends neither
on the tile's extents nor on its neighbours: bits do not change with what is computed together.
"""

import inspect
from collections.abc import Callable
from typing import Any

from numba.core import types

from .cpu import IS_WIDE, LIKE_XEON
from .registry import helper, inlined
from .simd import data_of, float32x16, intrinsic, load, load_first, store, store_first
from .tile_code import Given, call_tiles, constant
from .vector_code import LANES

_SIZE = types.intp


def _given(context: Any, builder: Any, tiles: Callable[..., Any], kinds: Any, values: Any, **more: Any) -> Given:
    """Return what tiles are given: values of these types for the parameters of the function, and more."""
    given = dict(more)
    names = list(inspect.signature(tiles).parameters)[1:]
    for name, kind, value in zip(names, kinds, values, strict=True):
        given[name] = data_of(context, builder, kind, value) if isinstance(kind, types.Array) else value
    return Given(**given)


def row_tile(rows: int) -> Any:
    """Make tiles whose rows are places of a: c[r, lane] = max(floor, start + sum of a[r, j, k] * b[j, k, lane]).

    Arrays are flat; a0, b0, c0 are where the first elements lie. Row r reads a[a0 + r * a_row + j * a_line + k] for
    j < lines, k < depth; b advances by b_step at each. `start` and `floor` are vectors; so many `lanes` are written,
    and so many tiles, one below the other. If there are two panels (not more than `PANELS`), the second one's b lies
    b_next further, its c beside the first one's; `more` is its start, and `lanes` are its own.
    """

    def row_tiles(  # type: ignore[no-untyped-def]
        typing, a, a0, a_row, a_line, b, b0, b_next, b_step, lines, depth, start, more, c, c0, c_row, lanes, floor,
        tiles, panels,
    ):  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            given = _given(context, builder, row_tiles, signature.args, args, a_step=constant(1), adds=None)
            call_tiles(builder, f"row_tile_{rows}", given, rows, PANELS)
            return context.get_dummy_value()

        vector, kinds = float32x16, [a, *[_SIZE] * 3, b, *[_SIZE] * 5]
        return types.void(*kinds, vector, vector, c, *[_SIZE] * 3, vector, _SIZE, _SIZE), generate

    return intrinsic(row_tiles)


def outer_tile(rows: int, most_panels: int | None = None) -> Any:
    """Make tiles whose rows are neighbours in a: c[r, lane] = sum of a[j, k, r] * b[j, k, lane], + c if `adds`.

    Row r reads a[a0 + r + j * a_line + k * a_step]; the rest is as in `row_tile`.

    Args:
        rows: of a tile.
        most_panels: that it is asked for; None: `PANELS`.
    """
    most = most_panels or PANELS

    def outer_tiles(  # type: ignore[no-untyped-def]
        typing, a, a0, a_line, a_step, b, b0, b_next, b_step, lines, depth, c, c0, c_row, lanes, adds, tiles, panels
    ):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            given = _given(
                context,
                builder,
                outer_tiles,
                signature.args,
                args,
                a_row=constant(1),
                start=None,
                more=None,
                floor=None,
            )
            call_tiles(builder, f"outer_tile_{rows}_{most}", given, rows, most)
            return context.get_dummy_value()

        kinds = [a, *[_SIZE] * 3, b, *[_SIZE] * 5, c, *[_SIZE] * 3]
        return types.void(*kinds, types.boolean, _SIZE, _SIZE), generate

    return intrinsic(outer_tiles)


# The most panels of a tile, and the most rows of so many, whose sums fit the registers beside a value of a and a row
# of b.
PANELS = 2 if IS_WIDE else 1
ROWS = 12 if IS_WIDE else 6
tile, tile_4, tile_1 = row_tile(ROWS), row_tile(4), row_tile(1)
outer, outer_4, outer_3, outer_1 = outer_tile(ROWS), outer_tile(4), outer_tile(3), outer_tile(1)
# A line of three pixels of three channels: three sums would wait for each other. AVX2 has no such remainder.
outer_9 = outer_tile(9) if IS_WIDE else outer_3
# One panel leaves room for sixteen channels, which are no multiple of twelve.
outer_alone = outer_tile(16, 1) if IS_WIDE else outer
_ALONE = 16 if IS_WIDE else ROWS

# A mask costs a Xeon nothing, and where branches meet, what they give goes through memory. On Zen 5 a batch norm takes
# 1.4 times as long with masks, but so does the gradient of a pooled convolution without them (`get_masked`).
_MASKS = LIKE_XEON


@inlined
def get(array, at, lanes):  # type: ignore[no-untyped-def]
    """Return sixteen elements from `at`, or only the first `lanes` of them, and zeros."""
    return load(array, at) if lanes >= LANES and not _MASKS else load_first(array, at, lanes)


@inlined
def get_masked(array, at, lanes):  # type: ignore[no-untyped-def]
    """Do what `get` does, under a mask wherever there is AVX-512: for gradients that are chosen from two arrays."""
    return load(array, at) if lanes >= LANES and not IS_WIDE else load_first(array, at, lanes)


@inlined
def put(array, at, vector, lanes):  # type: ignore[no-untyped-def]
    """Write a vector to `at`, or only its first `lanes` elements."""
    if lanes >= LANES and not _MASKS:
        store(array, at, vector)
    else:
        store_first(array, at, vector, lanes)


@helper
def panels_from(first, end):  # type: ignore[no-untyped-def]
    """Return how many panels a tile takes from column `first` on, and the lanes of the last."""
    panels = min(PANELS, -(-(end - first) // LANES))
    return panels, min(LANES, end - first - (panels - 1) * LANES)


@helper
def _whole_tiles(rows):  # type: ignore[no-untyped-def]
    """Return how many of the tallest tiles to take: 2 rows fit no other tile, 8 do."""
    tiles = rows // ROWS
    return tiles - 1 if tiles > 0 and rows % ROWS == 2 and ROWS == 6 else tiles


@inlined
def products(  # type: ignore[no-untyped-def]
    a, a0, a_row, a_line, b, b0, b_next, b_step, lines, depth, start, more, c, c0, c_row, rows, lanes, floor, panels
):
    """Compute any number of rows as `row_tile` does; the last tiles may overlap, which gives the same values twice."""
    whole = _whole_tiles(rows)
    tile(
        a,
        a0,
        a_row,
        a_line,
        b,
        b0,
        b_next,
        b_step,
        lines,
        depth,
        start,
        more,
        c,
        c0,
        c_row,
        lanes,
        floor,
        whole,
        panels,
    )
    i = whole * ROWS
    fours = (rows - i) // 4
    a1, c1 = a0 + i * a_row, c0 + i * c_row
    tile_4(
        a,
        a1,
        a_row,
        a_line,
        b,
        b0,
        b_next,
        b_step,
        lines,
        depth,
        start,
        more,
        c,
        c1,
        c_row,
        lanes,
        floor,
        fours,
        panels,
    )
    i += 4 * fours
    left = rows - i
    if left > 0 and rows >= 4:
        a1, c1, once = a0 + (rows - 4) * a_row, c0 + (rows - 4) * c_row, min(left, 1)
        tile_4(
            a, a1, a_row, a_line, b, b0, b_next, b_step, lines, depth, start, more, c, c1, c_row, lanes, floor, once,
            panels,
        )  # fmt: skip
    elif left > 0:
        a1, c1 = a0 + i * a_row, c0 + i * c_row
        tile_1(
            a, a1, a_row, a_line, b, b0, b_next, b_step, lines, depth, start, more, c, c1, c_row, lanes, floor, left,
            panels,
        )  # fmt: skip


@inlined
def outer_products(a, a0, a_line, a_step, b, b0, b_next, b_step, lines, depth, c, c0, c_row, rows, lanes, adds, panels):  # type: ignore[no-untyped-def]
    """Compute any number of rows as `outer_tile` does."""
    if panels == 1 and rows % _ALONE == 0:
        number = rows // _ALONE
        outer_alone(
            a, a0, a_line, a_step, b, b0, b_next, b_step, lines, depth, c, c0, c_row, lanes, adds, number, panels
        )
        return
    whole = _whole_tiles(rows)
    outer(a, a0, a_line, a_step, b, b0, b_next, b_step, lines, depth, c, c0, c_row, lanes, adds, whole, panels)
    i = whole * ROWS
    left = rows - i
    if left == 0:
        return
    a1, c1 = a0 + i, c0 + i * c_row
    if left == 9:
        outer_9(a, a1, a_line, a_step, b, b0, b_next, b_step, lines, depth, c, c1, c_row, lanes, adds, 1, panels)
        return
    if left % 3 == 0:
        threes = left // 3
        outer_3(a, a1, a_line, a_step, b, b0, b_next, b_step, lines, depth, c, c1, c_row, lanes, adds, threes, panels)
        return
    fours = left // 4
    outer_4(a, a1, a_line, a_step, b, b0, b_next, b_step, lines, depth, c, c1, c_row, lanes, adds, fours, panels)
    i += 4 * fours
    left = rows - i
    a1, c1 = a0 + i, c0 + i * c_row
    outer_1(a, a1, a_line, a_step, b, b0, b_next, b_step, lines, depth, c, c1, c_row, lanes, adds, left, panels)
