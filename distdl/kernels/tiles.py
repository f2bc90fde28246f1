"""The innermost loop of every matrix product and convolution: a tile of sums that stays in registers.

A tile is `rows` results by sixteen columns, one vector a row. Its sums run over the depth in one
fixed order, each in its own lane, so a result depends neither on the tile's height nor on its
neighbours: bits do not change with the number of rows that are computed together.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import binding

from .cache import config
from .registry import helper, inlined
from .simd import LANES, add, at_least, fma, load, load_first, spread, store, store_first, zero

_NAMES = {
    "add": add,
    "at_least": at_least,
    "fma": fma,
    "load": load,
    "load_first": load_first,
    "spread": spread,
    "store": store,
    "store_first": store_first,
    "zero": zero,
}

_ROWS_SOURCE = """
def row_tile_{rows}(a, a0, a_row, a_line, b, b0, b_step, lines, depth, start, c, c0, c_row, lanes, floor, tiles):
    for number in range(tiles):
        row = b0
        {start}
        for j in range(lines):
            at = a0 + j * a_line
            for k in range(depth):
                columns = load(b, row)
                {accumulate}
                at += 1
                row += b_step
        if lanes == 16:
            {store}
        else:
            {store_first}
        a0 += {rows} * a_row
        c0 += {rows} * c_row
"""

_OUTER_SOURCE = """
def outer_tile_{rows}(a, a0, a_line, a_step, b, b0, b_step, lines, depth, c, c0, c_row, lanes, adds, tiles):
    for number in range(tiles):
        row = b0
        {clear}
        for j in range(lines):
            at = a0 + j * a_line
            for k in range(depth):
                columns = load(b, row)
                {accumulate_outer}
                at += a_step
                row += b_step
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

_LINES = {
    "start": "s{r} = start",
    "clear": "s{r} = zero()",
    "accumulate": "s{r} = fma(spread(a, at + {r} * a_row), columns, s{r})",
    "accumulate_outer": "s{r} = fma(spread(a, at + {r}), columns, s{r})",
    "add": "s{r} = add(load(c, c0 + {r} * c_row), s{r})",
    "add_first": "s{r} = add(load_first(c, c0 + {r} * c_row, lanes), s{r})",
    "store": "store(c, c0 + {r} * c_row, at_least(s{r}, floor))",
    "store_first": "store_first(c, c0 + {r} * c_row, at_least(s{r}, floor), lanes)",
    "put": "store(c, c0 + {r} * c_row, s{r})",
    "put_first": "store_first(c, c0 + {r} * c_row, s{r}, lanes)",
}


def _is_wide() -> bool:
    """Say whether the CPU has 32 vector registers of sixteen floats: AVX-512."""
    chosen = config.CPU_FEATURES
    if chosen is not None:
        return "+avx512f" in str(chosen)
    return bool(binding.get_host_cpu_features().get("avx512f")) and not config.CPU_NAME


def _compile(source: str, name: str, rows: int) -> Callable[..., None]:
    text = {key: "; ".join(line.format(r=r) for r in range(rows)) for key, line in _LINES.items()}
    scope: dict[str, Any] = dict(_NAMES, __name__=__name__)
    exec(source.format(**text, rows=rows), scope)
    compiled: Callable[..., None] = helper(scope[f"{name}_{rows}"])
    return compiled


def row_tile(rows: int) -> Callable[..., None]:
    """Compile tiles whose rows are places of a: c[r, lane] = max(floor, start + sum of a[r, j, k] * b[j, k, lane]).

    The function takes (a, a0, a_row, a_line, b, b0, b_step, lines, depth, start, c, c0, c_row, lanes, floor,
    tiles). Arrays are flat; a0, b0, c0 are where the first elements lie. Row r reads a[a0 + r * a_row +
    j * a_line + k] for j < lines, k < depth; b advances by b_step at each. `start` and `floor` are
    vectors; so many `lanes` are written, and so many tiles, one below the other.
    """
    return _compile(_ROWS_SOURCE, "row_tile", rows)


def outer_tile(rows: int) -> Callable[..., None]:
    """Compile tiles whose rows are neighbours in a: c[r, lane] = sum of a[j, k, r] * b[j, k, lane], + c if `adds`.

    The function takes (a, a0, a_line, a_step, b, b0, b_step, lines, depth, c, c0, c_row, lanes, adds,
    tiles): row r reads a[a0 + r + j * a_line + k * a_step]; the rest as in `row_tile`.
    """
    return _compile(_OUTER_SOURCE, "outer_tile", rows)


# What the choice of algorithms goes by; AVX2 stands for all CPUs with 16 registers of eight floats.
CPU_KIND = "avx512" if _is_wide() else "avx2"

# The tallest tile whose sums, with one vector of b and one of a, fit the registers.
ROWS = 12 if CPU_KIND == "avx512" else 6
tile, tile_4, tile_1 = row_tile(ROWS), row_tile(4), row_tile(1)
outer, outer_4, outer_3, outer_1 = outer_tile(ROWS), outer_tile(4), outer_tile(3), outer_tile(1)
# A line of three pixels of three channels: three sums would wait for each other.
outer_9 = outer_tile(9) if CPU_KIND == "avx512" else outer_3
_NINE = 9 if CPU_KIND == "avx512" else 3


@inlined
def get(array, at, lanes):  # type: ignore[no-untyped-def]
    """Return sixteen elements from `at`, or only the first `lanes` of them, and zeros."""
    return load(array, at) if lanes >= LANES else load_first(array, at, lanes)


@inlined
def put(array, at, vector, lanes):  # type: ignore[no-untyped-def]
    """Write a vector to `at`, or only its first `lanes` elements."""
    if lanes >= LANES:
        store(array, at, vector)
    else:
        store_first(array, at, vector, lanes)


@helper
def _whole_tiles(rows):  # type: ignore[no-untyped-def]
    """Return how many of the tallest tiles to take: what is left must not be 2, which no other tile fits."""
    tiles = rows // ROWS
    return tiles - 1 if tiles > 0 and rows % ROWS == 2 else tiles


@inlined
def products(a, a0, a_row, a_line, b, b0, b_step, lines, depth, start, c, c0, c_row, rows, lanes, floor):  # type: ignore[no-untyped-def]
    """Compute any number of rows as `row_tile` does; the last tiles may overlap, which gives the same values twice."""
    whole = _whole_tiles(rows)
    tile(a, a0, a_row, a_line, b, b0, b_step, lines, depth, start, c, c0, c_row, lanes, floor, whole)
    i = whole * ROWS
    fours = (rows - i) // 4
    a1, c1 = a0 + i * a_row, c0 + i * c_row
    tile_4(a, a1, a_row, a_line, b, b0, b_step, lines, depth, start, c, c1, c_row, lanes, floor, fours)
    i += 4 * fours
    left = rows - i
    if left > 0 and rows >= 4:
        a1, c1 = a0 + (rows - 4) * a_row, c0 + (rows - 4) * c_row
        tile_4(a, a1, a_row, a_line, b, b0, b_step, lines, depth, start, c, c1, c_row, lanes, floor, min(left, 1))
    elif left > 0:
        a1, c1 = a0 + i * a_row, c0 + i * c_row
        tile_1(a, a1, a_row, a_line, b, b0, b_step, lines, depth, start, c, c1, c_row, lanes, floor, left)


@inlined
def outer_products(a, a0, a_line, a_step, b, b0, b_step, lines, depth, c, c0, c_row, rows, lanes, adds):  # type: ignore[no-untyped-def]
    """Compute any number of rows as `outer_tile` does."""
    whole = _whole_tiles(rows)
    outer(a, a0, a_line, a_step, b, b0, b_step, lines, depth, c, c0, c_row, lanes, adds, whole)
    i = whole * ROWS
    left = rows - i
    if left == 0:
        return
    if left % _NINE == 0:
        nines = left // _NINE
        outer_9(a, a0 + i, a_line, a_step, b, b0, b_step, lines, depth, c, c0 + i * c_row, c_row, lanes, adds, nines)
        return
    if left % 3 == 0:
        threes = left // 3
        outer_3(a, a0 + i, a_line, a_step, b, b0, b_step, lines, depth, c, c0 + i * c_row, c_row, lanes, adds, threes)
        return
    fours = left // 4
    outer_4(a, a0 + i, a_line, a_step, b, b0, b_step, lines, depth, c, c0 + i * c_row, c_row, lanes, adds, fours)
    i += 4 * fours
    left = rows - i
    outer_1(a, a0 + i, a_line, a_step, b, b0, b_step, lines, depth, c, c0 + i * c_row, c_row, lanes, adds, left)
