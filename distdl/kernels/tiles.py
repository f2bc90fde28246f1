"""The innermost loop of every matrix product and convolution: a tile of sums that stays in registers.

A tile is `rows` results by sixteen columns, a panel, one vector a row; or by two panels, side by side, where
there are registers for it (`PANELS`): each value of a is then spread for two multiplications, and loads are no
longer what limits. Sums run over the depth in one fixed order, each in its own lane, so a result depends neither
on the tile's extents nor on its neighbours: bits do not change with what is computed together.
"""

import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding

from .cache import config
from .registry import helper, inlined
from .simd import LANES, add, at_least, fma, load, load_first, prefetch, spread, store, store_first, zero

_NAMES = {
    "add": add,
    "at_least": at_least,
    "fma": fma,
    "load": load,
    "load_first": load_first,
    "prefetch": prefetch,
    "spread": spread,
    "store": store,
    "store_first": store_first,
    "zero": zero,
}

_ROWS_SOURCE = """
def row_tile_{rows}(
    a, a0, a_row, a_line, b, b0, b_next, b_step, lines, depth, start, more, c, c0, c_row, lanes, floor, tiles, panels
):
    {pair}
    {single}
"""

_ROWS_BODY = """
for number in range(tiles):
    row = b0
    {start}
    for j in range(lines):
        at = a0 + j * a_line
        for k in range(depth):
            {columns}
            {accumulate}
            at += 1
            row += b_step
    {store_before}
    if lanes == 16:
        {store}
    else:
        {store_first}
    a0 += {rows} * a_row
    c0 += {rows} * c_row
"""

_OUTER_SOURCE = """
def outer_tile_{rows}(
    a, a0, a_line, a_step, b, b0, b_next, b_step, lines, depth, c, c0, c_row, lanes, adds, tiles, panels
):
    {pair}
    {single}
"""

_OUTER_BODY = """
for number in range(tiles):
    row = b0
    {ask}
    {clear}
    for j in range(lines):
        at = a0 + j * a_line
        for k in range(depth):
            {columns}
            {accumulate_outer}
            at += a_step
            row += b_step
    if adds:
        {add_before}
    {put_before}
    if lanes == 16:
        if adds:
            {add}
        {put}
    else:
        if adds:
            {add_first}
        {put_first}
    a0 += {rows}
    c0 += {rows} * c_row
"""

# Of each row: `s` are the sums of the last panel, `t` those of the one before if there are two.
_LINES = {
    "start": "s{r} = start",
    # By the time that the sums are done, their place is in the cache.
    "ask": "prefetch(c, c0 + {r} * c_row)",
    "clear": "s{r} = zero()",
    "accumulate": "s{r} = fma(spread(a, at + {r} * a_row), columns, s{r})",
    "accumulate_outer": "s{r} = fma(spread(a, at + {r}), columns, s{r})",
    "add": "s{r} = add(load(c, {last} + {r} * c_row), s{r})",
    "add_first": "s{r} = add(load_first(c, {last} + {r} * c_row, lanes), s{r})",
    "store": "store(c, {last} + {r} * c_row, at_least(s{r}, floor))",
    "store_first": "store_first(c, {last} + {r} * c_row, at_least(s{r}, floor), lanes)",
    "put": "store(c, {last} + {r} * c_row, s{r})",
    "put_first": "store_first(c, {last} + {r} * c_row, s{r}, lanes)",
    "store_before": "pass",
    "add_before": "pass",
    "put_before": "pass",
}

_PAIR_LINES = {
    **_LINES,
    "start": "t{r} = start; s{r} = more",
    "ask": "prefetch(c, c0 + {r} * c_row); prefetch(c, {last} + {r} * c_row)",
    "clear": "t{r} = zero(); s{r} = zero()",
    "accumulate": "v = spread(a, at + {r} * a_row); t{r} = fma(v, before, t{r}); s{r} = fma(v, columns, s{r})",
    "accumulate_outer": "v = spread(a, at + {r}); t{r} = fma(v, before, t{r}); s{r} = fma(v, columns, s{r})",
    "store_before": "store(c, c0 + {r} * c_row, at_least(t{r}, floor))",
    "add_before": "t{r} = add(load(c, c0 + {r} * c_row), t{r})",
    "put_before": "store(c, c0 + {r} * c_row, t{r})",
}


def _is_wide() -> bool:
    """Say whether the CPU has 32 vector registers of sixteen floats: AVX-512."""
    chosen = config.CPU_FEATURES
    if chosen is not None:
        return "+avx512f" in str(chosen)
    return bool(binding.get_host_cpu_features().get("avx512f")) and not config.CPU_NAME


def _body(text: str, lines: dict[str, str], rows: int, **names: str) -> str:
    """Return the loop over tiles for one panel or two, as it stands in a function."""
    written = {key: "; ".join(line.format(r=r, **names) for r in range(rows)) for key, line in lines.items()}
    return text.format(**written, rows=rows, columns=names["columns"])


def _compile(source: str, body: str, name: str, rows: int, panels: int) -> Callable[..., None]:
    single = _body(body, _LINES, rows, last="c0", columns="columns = load(b, row)")
    pair = ""
    if panels == 2:
        columns = "before = load(b, row); columns = load(b, row + b_next)"
        pair = _body(body, _PAIR_LINES, rows, last=f"c0 + {LANES}", columns=columns)
        pair = "if panels == 2:\n" + textwrap.indent(pair + "return\n", "    ")
    scope: dict[str, Any] = dict(_NAMES, __name__=__name__)
    parts = {key: textwrap.indent(text, "    ").lstrip() for key, text in (("pair", pair), ("single", single))}
    exec(source.format(rows=rows, **parts), scope)
    compiled: Callable[..., None] = helper(scope[f"{name}_{rows}"])
    return compiled


def row_tile(rows: int) -> Callable[..., None]:
    """Compile tiles whose rows are places of a: c[r, lane] = max(floor, start + sum of a[r, j, k] * b[j, k, lane]).

    The function takes (a, a0, a_row, a_line, b, b0, b_next, b_step, lines, depth, start, more, c, c0, c_row, lanes,
    floor, tiles, panels). Arrays are flat; a0, b0, c0 are where the first elements lie. Row r reads a[a0 + r * a_row +
    j * a_line + k] for j < lines, k < depth; b advances by b_step at each. `start` and `floor` are vectors; so many
    `lanes` are written, and so many tiles, one below the other. If there are two panels (not more than `PANELS`), the
    second one's b lies b_next further, its c beside the first one's; `more` is its start, and `lanes` are its own.
    """
    return _compile(_ROWS_SOURCE, _ROWS_BODY, "row_tile", rows, PANELS)


def outer_tile(rows: int, most_panels: int | None = None) -> Callable[..., None]:
    """Compile tiles whose rows are neighbours in a: c[r, lane] = sum of a[j, k, r] * b[j, k, lane], + c if `adds`.

    The function takes (a, a0, a_line, a_step, b, b0, b_next, b_step, lines, depth, c, c0, c_row, lanes, adds, tiles,
    panels): row r reads a[a0 + r + j * a_line + k * a_step]; the rest as in `row_tile`.

    Args:
        rows: of a tile.
        most_panels: that it is asked for; None: `PANELS`.
    """
    return _compile(_OUTER_SOURCE, _OUTER_BODY, "outer_tile", rows, most_panels or PANELS)


# What the choice of algorithms goes by; AVX2 stands for all CPUs with 16 registers of eight floats.
CPU_KIND = "avx512" if _is_wide() else "avx2"

# The most panels of a tile, and the most rows of so many, whose sums fit the registers beside a value of a and a row
# of b.
PANELS = 2 if CPU_KIND == "avx512" else 1
ROWS = 12 if CPU_KIND == "avx512" else 6
tile, tile_4, tile_1 = row_tile(ROWS), row_tile(4), row_tile(1)
outer, outer_4, outer_3, outer_1 = outer_tile(ROWS), outer_tile(4), outer_tile(3), outer_tile(1)
# A line of three pixels of three channels: three sums would wait for each other. AVX2 has no such remainder.
outer_9 = outer_tile(9) if CPU_KIND == "avx512" else outer_3
# One panel leaves room for sixteen channels, which are no multiple of twelve.
outer_alone = outer_tile(16, 1) if CPU_KIND == "avx512" else outer
_ALONE = 16 if CPU_KIND == "avx512" else ROWS

# A mask costs AVX-512 nothing, and a branch keeps vectors out of registers where it meets others.
_MASKS = CPU_KIND == "avx512"


@inlined
def get(array, at, lanes):  # type: ignore[no-untyped-def]
    """Return sixteen elements from `at`, or only the first `lanes` of them, and zeros."""
    return load(array, at) if lanes >= LANES and not _MASKS else load_first(array, at, lanes)


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
        once = np.int64(1)
        outer_9(a, a1, a_line, a_step, b, b0, b_next, b_step, lines, depth, c, c1, c_row, lanes, adds, once, panels)
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
