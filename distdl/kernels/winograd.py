"""Winograd's convolution F(4x4, 3x3): 36 products give 4x4 results of a 3x3 kernel, where 144 would.

    Y = A' [(G g G') * (B' d B)] A          (' is the transpose, * the product element by element)

summed over input channels before the outer transform (A. Lavin, S. Gray, "Fast Algorithms for
Convolutional Neural Networks", CVPR 2016, section 4.3). The sum over channels is a matrix product for
each of the 36 elements, the planes. The gradients are the exact adjoint of each step:

    dM = A dY A',   dV = dM U',   dX += B dV B',   dU = V' dM,   dg = G' dU G

Tiles of all images are taken in blocks that stay in the second-level cache. A result depends on its
own image only; gradients of weights are summed over tiles in their order, block by block.
"""

from typing import Any

import numpy as np

from .batch_norm import _batch_input, _batch_moments, add_moments, begin_moments, finish_moments, input_rows
from .registry import helper, kernel
from .simd import LANES, LOWEST, add, fill, load, load_first, prefetch, store, zero
from .taps import Pair
from .tiles import PANELS, ROWS, outer_products, tile
from .windows import begin, extents, finish
from .winograd_lines import (
    add_input,
    read_gradient,
    read_input,
    read_window_gradient,
    write_greatest,
    write_output,
)

PLANES = 36

# How far ahead of the tiles pixels are asked for: memory is slow to answer.
AHEAD = 1 << 14

# The most tiles, side by side, that are transformed together: their lines stay in the first-level cache.
SPAN = 8

# Sizes of blocks are multiples of this: of the rows of register tiles (6 or 12).
BLOCK = 12

_B = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float64,
).T
_A = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float64).T


def plane_size(rows: int, columns: int) -> int:
    """Return the floats of one plane of so many: 64 bytes more than it holds.

    So elements of one place on all planes do not meet in one set of the cache, as at multiples of 4 KiB they would.
    """
    return rows * columns + LANES


def weight_panels(u: np.ndarray, inputs: int) -> np.ndarray:
    """Return the weights on planes of `plane_size` as (36, panels of outputs, inputs, 16)."""
    return u[:, :-LANES].reshape(PLANES, -1, inputs, LANES)


@helper
def _block(v, channels):  # type: ignore[no-untyped-def]
    """Return how many tiles, of so many channels, the planes of v hold."""
    return (v.shape[1] - LANES) // channels


def _tiles_of(images: np.ndarray, before: Pair, counts: Pair, size: int) -> Any:
    """Return tiles of size x size pixels, four apart: (n, down, across, size, size, channels)."""
    height, width = (4 * (count - 1) + size for count in counts)
    padded = np.zeros((images.shape[0], height, width, images.shape[3]))
    rows = min(images.shape[1], height - before[0])
    columns = min(images.shape[2], width - before[1])
    padded[:, before[0] : before[0] + rows, before[1] : before[1] + columns] = images[:, :rows, :columns]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return windows[:, ::4, ::4].transpose(0, 1, 2, 4, 5, 3)


def _counts(y: np.ndarray) -> Pair:
    return -(-y.shape[1] // 4), -(-y.shape[2] // 4)


@helper
def _prefetch(image, t, count, floats):  # type: ignore[no-untyped-def]
    """Ask for the pixels wanted AHEAD floats later; each of `count` tiles from tile t takes so many new ones."""
    start = t * floats + AHEAD
    for at in range(start, start + count * floats, LANES):
        prefetch(image, at)


@helper
def _share(floats, tiles, channels):  # type: ignore[no-untyped-def]
    """Return a tile's share of an image that is to be asked for; none where matrix products hide the memory's delay."""
    return floats // max(1, tiles) if channels <= 2 * LANES else 0


@helper
def _place(t, down, across):  # type: ignore[no-untyped-def]
    """Return the image of tile t, and its first row and column of results."""
    inner = t % (down * across)
    return t // (down * across), inner // across * 4, inner % across * 4


@helper
def _run(t, count, across, left):  # type: ignore[no-untyped-def]
    """Return how many of the tiles t to `count` stand side by side: those that are transformed together."""
    return min(SPAN, count - t, across - left // 4)


def _winograd_forward(
    x: np.ndarray,
    u: np.ndarray,
    bias: np.ndarray,
    relu: bool,
    before: Pair,
    v: np.ndarray,
    lines: np.ndarray,
    y: np.ndarray,
    taps: np.ndarray,
    work: np.ndarray,
    mean: np.ndarray,
    squares: np.ndarray,
) -> None:
    height, width = extents(y, taps)
    tiles = _tiles_of(x, before, (-(-height // 4), -(-width // 4)), 6)
    planes = np.einsum("pa,qb,nhwpqc->nhwabc", _B, _B, tiles)
    weights = weight_panels(u, x.shape[3]).swapaxes(1, 2).reshape(6, 6, x.shape[3], -1)[..., : y.shape[3]]
    results = np.einsum("ai,bj,nhwabc,abck->nhiwjk", _A, _A, planes, weights, optimize=True)
    pixels = results.reshape(len(y), 4 * results.shape[1], 4 * results.shape[3], y.shape[3])[:, :height, :width] + bias
    finish(pixels, relu, y, taps)
    if mean.size and len(y):
        _batch_moments(y.reshape(-1, mean.size), work, mean, squares)


@kernel(reference=_winograd_forward, types=("float32",), working=("v", "lines", "work"))
def winograd_forward(x, u, bias, relu, before, v, lines, y, taps, work, mean, squares):  # type: ignore[no-untyped-def]
    """y = the convolution of x with the weights that u was made of, + bias; negative results become 0 if `relu`.

    x (n, height, width, inputs); u as `winograd_weights` gives it; bias (outputs,); before: rows and columns
    of padding above and left of the image; y (n, out height, out width, outputs). If taps has channels, the
    greatest of each 2x2 window is written instead, and to taps its place: both (n, windows down, windows across,
    outputs). If mean has channels, it and `squares` get what `batch_moments` gives of y, if there is an image. Working
    memory: v (37, plane size of a block of tiles and of the greater number of channels, rounded up to 16), lines
    (8 * 36 * 16,), work as there.
    """
    height, width, inputs = x.shape[1:]
    rows, columns, outputs = y.shape[1:]
    pooled = taps.shape[3] > 0
    size = 2 if pooled else 4
    down, across = -(-rows // size), -(-columns // size)
    places = taps.reshape(-1)
    source, target, planes, weights = x.reshape(-1), y.reshape(-1), v.reshape(-1), u.reshape(-1)
    plane = v.shape[1]
    channels = -(-max(inputs, outputs) // LANES) * LANES
    block = _block(v, channels)
    panels = -(-outputs // LANES)
    floor = fill(np.float32(0) if relu else LOWEST)
    # Not as literals, for each of which the tile would be compiled anew.
    none, once, wide = np.int64(0), np.int64(1), np.int64(LANES)
    tiles = len(x) * down * across
    fresh = _share(height * width * inputs, down * across, channels)
    written = _share(rows * columns * outputs, down * across, channels)
    for first in range(0, tiles, block):
        count = min(block, tiles - first)
        t = 0
        while t < count:
            n, top, left = _place(first + t, down, across)
            run = _run(t, count, across, left)
            image, at = n * height * width * inputs, t * channels
            _prefetch(source, first + t, run, fresh)
            _prefetch(target, first + t, run, written)
            for c in range(0, inputs, LANES):
                # One slot on: plane p of the products is written where plane p - 1 of the inputs was.
                read_input(
                    source, image, height, width, inputs, top - before[0], left - before[1], c, run, lines, planes,
                    plane + at + c, channels, plane,
                )  # fmt: skip
            t += run
        for p in range(PLANES):
            for panel in range(0, panels, PANELS):
                b0 = p * u.shape[1] + panel * inputs * LANES
                c0 = p * plane + panel * LANES
                tile(
                    planes, (p + 1) * plane, channels, none, weights, b0, inputs * LANES, wide, once, inputs, zero(),
                    zero(), planes, c0, channels, wide, fill(LOWEST), -(-count // ROWS), min(PANELS, panels - panel),
                )  # fmt: skip
        for t in range(count):
            n, top, left = _place(first + t, down, across)
            image = n * rows * columns * outputs
            for k in range(0, outputs, LANES):
                start = load_first(bias, k, outputs - k)
                at = t * channels + k
                if pooled:
                    write_greatest(
                        planes, at, plane, lines, start, relu, target, places, image, rows, columns, outputs,
                        top // 2, left // 2, k,
                    )  # fmt: skip
                else:
                    write_output(
                        planes, at, plane, lines, start, floor, target, image, rows, columns, outputs, top, left, k
                    )
            if mean.size > 0 and (first + t + 1) % (down * across) == 0:
                # Image by image, while it is in the cache.
                if n == 0:
                    begin_moments(target, image, rows * columns, work, mean, squares)
                add_moments(target, image, rows * columns, work, mean, squares)
    if mean.size > 0 and tiles > 0:
        finish_moments(len(y) * rows * columns, work, mean, squares)


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
    tiles = np.einsum("ai,bj,nhwijk->nhwabk", _A, _A, _tiles_of(dy, (0, 0), _counts(dy), 4))
    if db.size:
        db[: dy.shape[3]] = dy.sum(axis=(0, 1, 2), dtype=np.float64)
    if du.size:
        planes = np.einsum("pa,qb,nhwpqc->nhwabc", _B, _B, _tiles_of(x, before, _counts(dy), 6))
        sums = du[:, :-LANES].reshape(PLANES, x.shape[3], -1)
        sums.fill(0)
        gradients = np.einsum("nhwabc,nhwabk->abck", planes, tiles, optimize=True)
        sums[..., : dy.shape[3]] = gradients.reshape(PLANES, x.shape[3], -1)
    if dx.size:
        weights = weight_panels(u, dy.shape[3]).swapaxes(1, 2).reshape(6, 6, dy.shape[3], -1)[..., : dx.shape[3]]
        pixels = np.einsum("pa,qb,nhwabk,abkc->nhwpqc", _B, _B, tiles, weights, optimize=True)
        padded = np.zeros((len(dx), *(4 * count + 2 for count in _counts(dy)), dx.shape[3]))
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
    block = _block(v, channels)
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
    fresh = _share(height * width * inputs, down * across, channels) if needs_w else 0
    given = _share(rows * columns * outputs, down * across, channels)
    for first in range(0, tiles, block):
        count = min(block, tiles - first)
        part[:] = 0
        t = 0
        while needs_w and t < count:
            n, top, left = _place(first + t, down, across)
            run = _run(t, count, across, left)
            image, at = n * height * width * inputs, t * channels
            _prefetch(source, first + t, run, fresh)
            for c in range(0, inputs, LANES):
                read_input(
                    source, image, height, width, inputs, top - before[0], left - before[1], c, run, lines, inner,
                    at + c, channels, plane,
                )  # fmt: skip
            t += run
        for t in range(count):
            n, top, left = _place(first + t, down, across)
            at = t * channels
            image = n * rows * columns * outputs
            if not normed:
                _prefetch(gradients, first + t, 1, given)
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
            n, top, left = _place(first + t, down, across)
            run = _run(t, count, across, left)
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
