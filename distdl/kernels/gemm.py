"""The three matrix products of a linear layer, in register tiles.

Each result is one sum in the order of the depth, so the bits of a row do not depend on how many rows there are,
as a BLAS' may.
"""

import numpy as np

from .registry import kernel
from .simd import LANES, LOWEST, add, fill, store, transpose, where_positive, zero
from .sums import BLOCK
from .tiles import PANELS, ROWS, get, outer_products, panels_from, products, put

Range = tuple[int, int]

# Rows that weight gradients sum in one go: longer float32 sums drift.
DEPTH = 512


def _linear_forward(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray, relu: bool, part: Range, packed: np.ndarray, y: np.ndarray
) -> None:
    columns = slice(*part)
    y[:, columns] = x @ w[:, columns] + bias[columns]
    if relu:
        np.maximum(y[:, columns], 0, out=y[:, columns])


@kernel(reference=_linear_forward, types=("float32",), working=("packed",))
def linear_forward(x, w, bias, relu, part, packed, y):  # type: ignore[no-untyped-def]
    """y = x w + bias, and 0 for negative results if `relu`, in the columns part[0] to part[1].

    x (rows, inputs), w (inputs, outputs), bias (outputs,), packed: working memory (panels of a tile, inputs, 16).
    """
    inputs, outputs = w.shape
    rows = len(x)
    none, once, wide = np.int64(0), np.int64(1), np.int64(LANES)
    a, weights, panel, c = x.reshape(-1), w.reshape(-1), packed.reshape(-1), y.reshape(-1)
    floor = fill(np.float32(0) if relu else LOWEST)
    for first in range(part[0], part[1], PANELS * LANES):
        panels, lanes = panels_from(first, part[1])
        last = first + (panels - 1) * LANES
        start, more = get(bias, first, part[1] - first), get(bias, last, lanes)
        if lanes == LANES and rows < ROWS:
            # So few rows do not pay for a copy.
            products(
                a, none, inputs, none, weights, first, wide, outputs, once, inputs, start, more,
                c, first, outputs, rows, lanes, floor, panels,
            )  # fmt: skip
            continue
        for i in range(inputs):
            for number in range(panels):
                k = first + number * LANES
                store(panel, (number * inputs + i) * LANES, get(weights, i * outputs + k, part[1] - k))
        products(
            a, none, inputs, none, panel, none, inputs * LANES, wide, once, inputs, start, more,
            c, first, outputs, rows, lanes, floor, panels,
        )  # fmt: skip


def _linear_input_gradient(dy: np.ndarray, w: np.ndarray, part: Range, packed: np.ndarray, dx: np.ndarray) -> None:
    dx[:, slice(*part)] = dy @ w[slice(*part)].T


@kernel(reference=_linear_input_gradient, types=("float32",), working=("packed",))
def linear_input_gradient(dy, w, part, packed, dx):  # type: ignore[no-untyped-def]
    """dx = dy w' in the columns part[0] to part[1].

    dy (rows, outputs), w (inputs, outputs), packed: working memory (panels of a tile, outputs rounded up to 16, 16).
    """
    inputs, outputs = w.shape
    a, weights, panel, c = dy.reshape(-1), w.reshape(-1), packed.reshape(-1), dx.reshape(-1)
    none, once, wide = np.int64(0), np.int64(1), np.int64(LANES)
    b_next = -(-outputs // LANES) * LANES * LANES
    for first in range(part[0], part[1], PANELS * LANES):
        panels, lanes = panels_from(first, part[1])
        for number in range(panels):
            row = first + number * LANES
            for k in range(0, outputs, LANES):
                columns, target = min(LANES, outputs - k), number * b_next + k * LANES
                transpose(weights, row * outputs + k, outputs, min(LANES, part[1] - row), columns, panel, target)
        products(
            a, none, outputs, none, panel, none, b_next, wide, once, outputs, zero(), zero(), c, first, inputs, len(dy),
            lanes, fill(LOWEST), panels,
        )  # fmt: skip


def _linear_weight_gradient(
    x: np.ndarray, dy: np.ndarray, part: Range, packed: np.ndarray, strip: np.ndarray, dw: np.ndarray
) -> None:
    dw[slice(*part)] = x[:, slice(*part)].T @ dy


@kernel(reference=_linear_weight_gradient, types=("float32",), working=("packed", "strip"))
def linear_weight_gradient(x, dy, part, packed, strip, dw):  # type: ignore[no-untyped-def]
    """dw = x' dy in the rows part[0] to part[1].

    x (rows, inputs), dy (rows, outputs). Working memory: packed (panels of dy, 512 + 1, 16), strip (512 * rows of a
    tile + 16,).
    """
    inputs, outputs = dw.shape
    a, gradients, panels, c = x.reshape(-1), dy.reshape(-1), packed.reshape(-1), dw.reshape(-1)
    none, once, wide, tall = np.int64(0), np.int64(1), np.int64(LANES), np.int64(ROWS)
    if len(x) == 0:
        c[part[0] * outputs : part[1] * outputs] = 0
    for start in range(0, len(x), DEPTH):
        depth = min(DEPTH, len(x) - start)
        # A line more than they hold, so that panels do not meet in one set of the cache.
        panel = (depth + 1) * LANES
        for first in range(0, outputs, LANES):
            lanes = outputs - first
            for i in range(depth):
                at = (start + i) * outputs + first
                row = get(gradients, at, lanes)
                store(panels, first // LANES * panel + i * LANES, row)
        for i in range(part[0], part[1], ROWS):
            rows = min(ROWS, part[1] - i)
            # As it lies, a strip of x would meet itself in the first-level cache, whose sets repeat every 4 KiB.
            for d in range(depth):
                store(strip, d * ROWS, get(a, (start + d) * inputs + i, inputs - i))
            for first in range(0, outputs, PANELS * LANES):
                count, lanes = panels_from(first, outputs)
                outer_products(
                    strip, none, none, tall, panels, first // LANES * panel, panel, wide, once, depth,
                    c, i * outputs + first, outputs, rows, lanes, start > 0, count,
                )  # fmt: skip


def _relu_gradient(dy: np.ndarray, y: np.ndarray, masked: np.ndarray, db: np.ndarray) -> None:
    masked[...] = np.where(y > 0, dy, np.float32(0))
    db[...] = masked.sum(axis=0, dtype=np.float64)


@kernel(reference=_relu_gradient, types=("float32",))
def relu_gradient(dy, y, masked, db):  # type: ignore[no-untyped-def]
    """masked = dy where y > 0, else 0; db = the sum of its rows. All but db: (rows, columns)."""
    rows, columns = dy.shape
    source, result, target = dy.reshape(-1), y.reshape(-1), masked.reshape(-1)
    db[:] = 0
    for first in range(0, columns, LANES):
        lanes = columns - first
        total = zero()
        for start in range(0, rows, BLOCK):
            part = zero()
            for i in range(start, min(start + BLOCK, rows)):
                at = i * columns + first
                gradient = where_positive(get(result, at, lanes), get(source, at, lanes))
                put(target, at, gradient, lanes)
                part = add(part, gradient)
            total = add(total, part)
        put(db, first, total, lanes)
