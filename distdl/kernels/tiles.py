"""The innermost loop of every matrix product and convolution: a tile of sums that stays in registers.

A tile is `rows` results by sixteen columns, one vector a row. Its sums run over the depth in one
fixed order, each in its own lane, so a result depends neither on the tile's height nor on its
neighbours: bits do not change with the number of rows that are computed together.
"""

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import binding

from .cache import config
from .registry import helper
from .simd import LANES, LOWEST, add, at_least, fill, fma, load, load_first, spread, store, store_first, zero

_NAMES = {
    "add": add,
    "at_least": at_least,
    "fma": fma,
    "load": load,
    "load_first": load_first,
    "spread": spread,
    "store": store,
    "store_first": store_first,
}

_SOURCE = """
def tile(a, a0, a_row, a_outer, a_step, b, b0, b_step, outer, depth, start, c, c0, c_row, lanes, adds, floor):
    {start}
    for j in range(outer):
        at = a0 + j * a_outer
        for k in range(depth):
            columns = load(b, b0)
            {accumulate}
            at += a_step
            b0 += b_step
    if lanes == 16:
        if adds:
            {add}
        {store}
    else:
        if adds:
            {add_first}
        {store_first}
"""

_LINES = {
    "start": "s{r} = start",
    "accumulate": "s{r} = fma(spread(a, at + {r} * a_row), columns, s{r})",
    "add": "s{r} = add(load(c, c0 + {r} * c_row), s{r})",
    "add_first": "s{r} = add(load_first(c, c0 + {r} * c_row, lanes), s{r})",
    "store": "store(c, c0 + {r} * c_row, at_least(s{r}, floor))",
    "store_first": "store_first(c, c0 + {r} * c_row, at_least(s{r}, floor), lanes)",
}


def _is_wide() -> bool:
    """Say whether the CPU has 32 vector registers of sixteen floats: AVX-512."""
    chosen = config.CPU_FEATURES
    if chosen is not None:
        return "+avx512f" in str(chosen)
    return bool(binding.get_host_cpu_features().get("avx512f")) and not config.CPU_NAME


def make_tile(rows: int) -> Callable[..., None]:
    """Compile the tile of so many rows: c[r, lane] = max(floor, start + sum over j, k of a[j, r, k] * b[j, k, lane]).

    The compiled function takes (a, a0, a_row, a_outer, a_step, b, b0, b_step, outer, depth, start, c, c0,
    c_row, lanes, adds, floor). Arrays are flat; a0, b0, c0 are where the tile's first elements lie.
    Row r reads a[a0 + r * a_row + j * a_outer + k * a_step] for j < outer, k < depth; b advances by
    b_step at each. `start` and `floor` are vectors; `adds`: the sums join what c holds; so many
    `lanes` are written.
    """
    text = {name: _repeat(line, rows) for name, line in _LINES.items()}
    scope: dict[str, Any] = dict(_NAMES)
    exec(_SOURCE.format(**text), scope)
    compiled: Callable[..., None] = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})(scope["tile"])
    return compiled


def _repeat(line: str, rows: int) -> str:
    return "; ".join(line.format(r=r) for r in range(rows))


# What the choice of algorithms goes by; AVX2 stands for all CPUs with 16 registers of eight floats.
CPU_KIND = "avx512" if _is_wide() else "avx2"

# The tallest tile whose sums, with one vector of b and one of a, fit the registers.
ROWS = 12 if CPU_KIND == "avx512" else 6
tile = make_tile(ROWS)
tile_4 = make_tile(4)
tile_3 = make_tile(3)
tile_1 = make_tile(1)


@helper
def get(array, at, lanes):  # type: ignore[no-untyped-def]
    """Return sixteen elements from `at`, or only the first `lanes` of them, and zeros."""
    return load(array, at) if lanes >= LANES else load_first(array, at, lanes)


@helper
def put(array, at, vector, lanes):  # type: ignore[no-untyped-def]
    """Write a vector to `at`, or only its first `lanes` elements."""
    if lanes >= LANES:
        store(array, at, vector)
    else:
        store_first(array, at, vector, lanes)


@helper
def products(a, a0, a_row, a_line, b, b0, b_step, lines, depth, start, c, c0, c_row, rows, lanes, floor):  # type: ignore[no-untyped-def]
    """c[r, lane] = max(floor, start + the sum of a[j, r, k] * b[j, k, lane]), for any number of rows.

    The last tiles may overlap, which gives the same values twice.
    """
    i = 0
    while i < rows:
        left = rows - i
        if left >= ROWS and left != ROWS + 2:
            a1, c1 = a0 + i * a_row, c0 + i * c_row
            tile(a, a1, a_row, a_line, 1, b, b0, b_step, lines, depth, start, c, c1, c_row, lanes, False, floor)
            i += ROWS
        elif rows >= 4:
            i = min(i, rows - 4)
            a1, c1 = a0 + i * a_row, c0 + i * c_row
            tile_4(a, a1, a_row, a_line, 1, b, b0, b_step, lines, depth, start, c, c1, c_row, lanes, False, floor)
            i += 4
        else:
            a1, c1 = a0 + i * a_row, c0 + i * c_row
            tile_1(a, a1, a_row, a_line, 1, b, b0, b_step, lines, depth, start, c, c1, c_row, lanes, False, floor)
            i += 1


@helper
def outer_products(a, a0, a_line, a_step, b, b0, b_step, lines, depth, c, c0, c_row, rows, lanes, adds):  # type: ignore[no-untyped-def]
    """c[r, lane] = the sum of a[j, k, r] * b[j, k, lane], + c if `adds`, for any number of rows, neighbours in a."""
    floor, start = fill(LOWEST), zero()
    i = 0
    while i < rows:
        left = rows - i
        a1, c1 = a0 + i, c0 + i * c_row
        if left >= ROWS and left != ROWS + 2:
            tile(a, a1, 1, a_line, a_step, b, b0, b_step, lines, depth, start, c, c1, c_row, lanes, adds, floor)
            i += ROWS
        elif left % 3 == 0 and left < 12:
            tile_3(a, a1, 1, a_line, a_step, b, b0, b_step, lines, depth, start, c, c1, c_row, lanes, adds, floor)
            i += 3
        elif left >= 4:
            tile_4(a, a1, 1, a_line, a_step, b, b0, b_step, lines, depth, start, c, c1, c_row, lanes, adds, floor)
            i += 4
        else:
            tile_1(a, a1, 1, a_line, a_step, b, b0, b_step, lines, depth, start, c, c1, c_row, lanes, adds, floor)
            i += 1
