"""The forward pass of Winograd's convolution (`winograd.py`), with what follows it."""

import numpy as np

from .batch_norm import _batch_moments, add_moments, begin_moments, finish_moments
from .registry import kernel
from .simd import LANES, LOWEST, fill, load_first, zero
from .taps import Pair
from .tiles import PANELS, ROWS, tile
from .windows import extents, finish
from .winograd import (
    PLANES,
    TO_PLANES,
    TO_RESULTS,
    ask_ahead,
    place_of_tile,
    share_of_tile,
    tiles_beside,
    tiles_of,
    tiles_of_block,
    weight_panels,
)
from .winograd_lines import read_input, write_greatest, write_output


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
    tiles = tiles_of(x, before, (-(-height // 4), -(-width // 4)), 6)
    planes = np.einsum("pa,qb,nhwpqc->nhwabc", TO_PLANES, TO_PLANES, tiles)
    weights = weight_panels(u, x.shape[3]).swapaxes(1, 2).reshape(6, 6, x.shape[3], -1)[..., : y.shape[3]]
    results = np.einsum("ai,bj,nhwabc,abck->nhiwjk", TO_RESULTS, TO_RESULTS, planes, weights, optimize=True)
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
    block = tiles_of_block(v, channels)
    panels = -(-outputs // LANES)
    floor = fill(np.float32(0) if relu else LOWEST)
    # Not as literals, for each of which the tile would be compiled anew.
    none, once, wide = np.int64(0), np.int64(1), np.int64(LANES)
    tiles = len(x) * down * across
    fresh = share_of_tile(height * width * inputs, down * across, channels)
    written = share_of_tile(rows * columns * outputs, down * across, channels)
    for first in range(0, tiles, block):
        count = min(block, tiles - first)
        t = 0
        while t < count:
            n, top, left = place_of_tile(first + t, down, across)
            run = tiles_beside(t, count, across, left)
            image, at = n * height * width * inputs, t * channels
            ask_ahead(source, first + t, run, fresh)
            ask_ahead(target, first + t, run, written)
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
            n, top, left = place_of_tile(first + t, down, across)
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
