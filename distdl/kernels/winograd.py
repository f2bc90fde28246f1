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

from .registry import helper
from .simd import LANES, prefetch
from .taps import Pair

PLANES = 36

# How far ahead of the tiles pixels are asked for: memory is slow to answer.
AHEAD = 1 << 14

# The most tiles, side by side, that are transformed together: their lines stay in the first-level cache.
SPAN = 8

TO_PLANES = np.array(
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
"""B of the formula, (pixels, planes) along either axis."""

TO_RESULTS = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float64
).T
"""A of the formula, (planes, results)."""


def plane_size(rows: int, columns: int) -> int:
    """Return the floats of one plane of so many: 64 bytes more than it holds.

    So elements of one place on all planes do not meet in one set of the cache, as at multiples of 4 KiB they would.
    """
    return rows * columns + LANES


def weight_panels(u: np.ndarray, inputs: int) -> np.ndarray:
    """Return the weights on planes of `plane_size` as (36, panels of outputs, inputs, 16)."""
    return u[:, :-LANES].reshape(PLANES, -1, inputs, LANES)


@helper
def tiles_of_block(v, channels):  # type: ignore[no-untyped-def]
    """Return how many tiles, of so many channels, the planes of v hold."""
    return (v.shape[1] - LANES) // channels


def tiles_of(images: np.ndarray, before: Pair, counts: Pair, size: int) -> Any:
    """Return tiles of size x size pixels, four apart: (n, down, across, size, size, channels)."""
    height, width = (4 * (count - 1) + size for count in counts)
    padded = np.zeros((images.shape[0], height, width, images.shape[3]))
    rows = min(images.shape[1], height - before[0])
    columns = min(images.shape[2], width - before[1])
    padded[:, before[0] : before[0] + rows, before[1] : before[1] + columns] = images[:, :rows, :columns]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return windows[:, ::4, ::4].transpose(0, 1, 2, 4, 5, 3)


def tile_counts(y: np.ndarray) -> Pair:
    """Return how many tiles cover results, down and across."""
    return -(-y.shape[1] // 4), -(-y.shape[2] // 4)


@helper
def ask_ahead(image, t, count, floats):  # type: ignore[no-untyped-def]
    """Ask for the pixels wanted AHEAD floats later; each of `count` tiles from tile t takes so many new ones."""
    start = t * floats + AHEAD
    for at in range(start, start + count * floats, LANES):
        prefetch(image, at)


@helper
def share_of_tile(floats, tiles, channels):  # type: ignore[no-untyped-def]
    """Return a tile's share of an image that is to be asked for; none where matrix products hide the memory's delay."""
    return floats // max(1, tiles) if channels <= 2 * LANES else 0


@helper
def place_of_tile(t, down, across):  # type: ignore[no-untyped-def]
    """Return the image of tile t, and its first row and column of results."""
    inner = t % (down * across)
    return t // (down * across), inner // across * 4, inner % across * 4


@helper
def tiles_beside(t, count, across, left):  # type: ignore[no-untyped-def]
    """Return how many of the tiles t to `count` stand side by side: those that are transformed together."""
    return min(SPAN, count - t, across - left // 4)
