"""The backward pass of Winograd's convolution: the exact adjoint of each step of `winograd.py`."""

import numpy as np

from .batch_norm import _batch_input, input_rows
from .registry import helper, kernel
from .simd import LANES, LOWEST, add, fill, load, store, zero
from .taps import Pair
from .tiles import PANELS, ROWS, outer_products, tile
from .windows import begin
from .winograd import (
    PLANES,
    TO_PLANES,
    TO_RESULTS,
    ask_ahead,
    place_of_tile,
    share_of_tile,
    tile_counts,
    tiles_beside,
    tiles_of,
    tiles_of_block,
    weight_panels,
)
from .winograd_lines import add_input, read_gradient, read_input, read_window_gradient


def _winograd_backward(
    x: np.ndarray,
    dy: np.ndarray,
    y: np.ndarray,
    masked: bool,
    norm: np.ndarray,
    taps: np.ndarray,
    u: np.ndarray,
    before: Pair,
    v: np.ndarray,
    m: np.ndarray,
    lines: np.ndarray,
    room: np.ndarray,
    adds: bool,
    dx: np.ndarray,
    du: np.ndarray,
    db: np.ndarray,
) -> None:
    dy = _behind_norm(dy, y, masked, norm) if norm.size else begin(dy, y, masked, taps)
    tiles = np.einsum("ai,bj,nhwijk->nhwabk", TO_RESULTS, TO_RESULTS, tiles_of(dy, (0, 0), tile_counts(dy), 4))
    if db.size:
        db[: dy.shape[3]] = dy.sum(axis=(0, 1, 2), dtype=np.float64)
    if du.size:
        planes = np.einsum("pa,qb,nhwpqc->nhwabc", TO_PLANES, TO_PLANES, tiles_of(x, before, tile_counts(dy), 6))
        sums = du[:, :-LANES].reshape(PLANES, x.shape[3], -1)
        sums.fill(0)
        gradients = np.einsum("nhwabc,nhwabk->abck", planes, tiles, optimize=True)
        sums[..., : dy.shape[3]] = gradients.reshape(PLANES, x.shape[3], -1)
    if dx.size:
        weights = weight_panels(u, dy.shape[3]).swapaxes(1, 2).reshape(6, 6, dy.shape[3], -1)[..., : dx.shape[3]]
        pixels = np.einsum("pa,qb,nhwabk,abkc->nhwpqc", TO_PLANES, TO_PLANES, tiles, weights, optimize=True)
        padded = np.zeros((len(dx), *(4 * count + 2 for count in tile_counts(dy)), dx.shape[3]))
        for h in range(pixels.shape[1]):
            for w in range(pixels.shape[2]):
                padded[:, 4 * h : 4 * h + 6, 4 * w : 4 * w + 6] += pixels[:, h, w]
        inside = padded[:, before[0] :, before[1] :][:, : dx.shape[1], : dx.shape[2]]
        if not adds:
            dx.fill(0)
        dx[:, : inside.shape[1], : inside.shape[2]] += inside


def _behind_norm(dy: np.ndarray, y: np.ndarray, masked: bool, norm: np.ndarray) -> np.ndarray:
    gradient = np.empty_like(dy)
    results, slopes, target = (array.reshape(-1, norm.shape[1]) for array in (y, dy, gradient))
    _batch_input(results, slopes, masked, norm, target)
    return gradient


@kernel(reference=_winograd_backward, types=("float32",), working=("v", "m", "lines", "room"))
def winograd_backward(x, dy, y, masked, norm, taps, u, before, v, m, lines, room, adds, dx, du, db):  # type: ignore[no-untyped-def]
    """The gradients of `winograd_forward`; those whose array is empty are left out.

    masked: a ReLU gave y, so dy counts only where y > 0; else y may be empty. norm: if it has channels, dy is the
    gradient of a batch norm of y, whose input gradient `batch_input` gives. taps: if it has channels, dy is the
    gradient of 2x2 windows whose greatest values they tell. u: the transform of the weights with inputs and outputs
    exchanged. dx like x, added to what is there if `adds`; du (36, plane size of inputs and of outputs rounded up to
    16); db (outputs rounded up to 16,). Working memory: v and m (36, plane size), lines as there, room for an image of
    dy if there is a norm (rows * columns * outputs,).
    """
    height, width, inputs = x.shape[1:]
    rows, columns, outputs = dy.shape[1:]
    pooled = taps.shape[3] > 0
    size = 2 if pooled else 4
    down, across = -(-rows // size), -(-columns // size)
    # Once: reshaping costs as much as a tile.
    source, gradients, target = x.reshape(-1), dy.reshape(-1), dx.reshape(-1)
    results, places = y.reshape(-1), taps.reshape(-1)
    inner, outer, weights, sums = v.reshape(-1), m.reshape(-1), u.reshape(-1), du.reshape(-1)
    plane = v.shape[1]
    channels = -(-max(inputs, outputs) // LANES) * LANES
    block = tiles_of_block(v, channels)
    needs_x, needs_w = dx.size > 0, du.size > 0
    normed = norm.size > 0
    slopes = room if normed else gradients
    db[:] = 0
    if len(dy) == 0:
        for p in range(du.shape[0]):
            du[p, : du.shape[1] - LANES] = 0
    pixels = dx.shape[1] * dx.shape[2] * inputs
    part = np.empty(db.size, np.float32)
    tiles = len(dy) * down * across
    fresh = share_of_tile(height * width * inputs, down * across, channels) if needs_w else 0
    given = share_of_tile(rows * columns * outputs, down * across, channels)
    for first in range(0, tiles, block):
        count = min(block, tiles - first)
        part[:] = 0
        t = 0
        while needs_w and t < count:
            n, top, left = place_of_tile(first + t, down, across)
            run = tiles_beside(t, count, across, left)
            image, at = n * height * width * inputs, t * channels
            ask_ahead(source, first + t, run, fresh)
            for c in range(0, inputs, LANES):
                read_input(
                    source, image, height, width, inputs, top - before[0], left - before[1], c, run, lines, inner,
                    at + c, channels, plane,
                )  # fmt: skip
            t += run
        for t in range(count):
            n, top, left = place_of_tile(first + t, down, across)
            at = t * channels
            image = n * rows * columns * outputs
            if not normed:
                ask_ahead(gradients, first + t, 1, given)
            elif top == 0 and left == 0:
                # Image by image: what the tiles read of it is still in the cache.
                input_rows(results, gradients, image, rows * columns, masked, norm, room)
            for k in range(0, outputs, LANES):
                if pooled:
                    total = read_window_gradient(
                        gradients, places, image, rows, columns, outputs, top // 2, left // 2, k, lines, outer, at + k,
                        plane,
                    )  # fmt: skip
                else:
                    total = read_gradient(
                        slopes, results, masked & (not normed), 0 if normed else image, rows, columns, outputs, top,
                        left, k, lines, outer, at + k, plane,
                    )  # fmt: skip
                if part.size:
                    store(part, k, add(load(part, k), total))
        for k in range(db.size):
            db[k] += part[k]
        for p in range(PLANES):
            if needs_w:
                _multiply_weights(
                    inner, outer, p, plane, channels, count, inputs, outputs, sums, du.shape[1], first > 0
                )  # fmt: skip
            if needs_x:
                _multiply_inputs(outer, weights, u.shape[1], p, plane, channels, count, inputs, outputs, inner)
        t = 0
        while needs_x and t < count:
            n, top, left = place_of_tile(first + t, down, across)
            run = tiles_beside(t, count, across, left)
            if top == 0 and left == 0 and not adds:
                # Each image just before its tiles: it is still in the cache when they are added.
                target[n * pixels : (n + 1) * pixels] = 0
            for c in range(0, inputs, LANES):
                add_input(
                    inner, t * channels + c, channels, plane, lines, target, n * pixels, dx.shape[1], dx.shape[2],
                    inputs, top - before[0], left - before[1], c, run,
                )  # fmt: skip
            t += run


@helper
def _multiply_weights(v, m, p, plane, channels, count, inputs, outputs, du, size, adds):  # type: ignore[no-untyped-def]
    """du[p] = V' dM, + du[p] if `adds`; planes of du have that size."""
    at = p * plane
    none, once, wide = np.int64(0), np.int64(1), np.int64(LANES)
    width = -(-outputs // LANES) * LANES
    for k in range(0, width, PANELS * LANES):
        c0 = p * size + k
        outer_products(
            v, at, none, channels, m, at + k, wide, channels, once, count, du, c0, width, inputs, wide, adds,
            min(PANELS, (width - k) // LANES),
        )  # fmt: skip


@helper
def _multiply_inputs(m, u, size, p, plane, channels, count, inputs, outputs, v):  # type: ignore[no-untyped-def]
    """dV[p] = dM U', written over V[p]; planes of u have that size."""
    at = p * plane
    none, once, wide = np.int64(0), np.int64(1), np.int64(LANES)
    panels = -(-inputs // LANES)
    for panel in range(0, panels, PANELS):
        b0 = p * size + panel * outputs * LANES
        tile(
            m, at, channels, none, u, b0, outputs * LANES, wide, once, outputs, zero(), zero(), v, at + panel * LANES,
            channels, wide, fill(LOWEST), -(-count // ROWS), min(PANELS, panels - panel),
        )  # fmt: skip
