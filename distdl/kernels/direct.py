"""Convolutions straight from their definition, in register tiles: neighbouring pixels by sixteen output channels.

Images are padded one by one, so that every window lies within; then a row of results is a matrix
product whose rows start `stride` pixels apart.
"""

import numpy as np

from .batch_norm import _batch_moments, add_moments, begin_moments, finish_moments
from .panels import pack
from .registry import helper, inlined, kernel
from .simd import LANES, LOWEST, fill, load, where_positive, zero
from .taps import Pair
from .taps import taps as taps_of
from .tiles import PANELS, get, panels_from, products, put
from .windows import begin, extents, finish, gradient_at, put_greatest


@helper
def pad_image(x, n, before, padded):  # type: ignore[no-untyped-def]
    """Copy image n into the middle of `padded` (height, width, channels), `before` (rows, columns) from its corner."""
    height, width, channels = x.shape[1:]
    source, target = x.reshape(-1), padded.reshape(-1)
    line, left, inner = padded.shape[1] * channels, before[1] * channels, width * channels
    for h in range(padded.shape[0]):
        row, inside = h * line, h - before[0]
        if inside < 0 or inside >= height:
            _clear(target, row, line)
            continue
        _clear(target, row, left)
        _clear(target, row + left + inner, line - left - inner)
        start = (n * height + inside) * inner
        for i in range(0, inner, LANES):
            put(target, row + left + i, get(source, start + i, inner - i), inner - i)


@helper
def _clear(target, start, count):  # type: ignore[no-untyped-def]
    for i in range(0, count, LANES):
        put(target, start + i, zero(), count - i)


@helper
def pad_gradient(dy, y, masked, taps, n, before, padded):  # type: ignore[no-untyped-def]
    """Copy gradient image n into the middle of zeros, after it has passed pooling (`taps`) or a ReLU (`masked`)."""
    source, results, places, target = dy.reshape(-1), y.reshape(-1), taps.reshape(-1), padded.reshape(-1)
    height, width, outputs = dy.shape[1:]
    line, inner = padded.shape[1] * outputs, width * outputs
    if taps.shape[3]:
        _clear(target, 0, padded.size)
        for h in range(height):
            for w in range(width):
                at = (n * height + h) * inner + w * outputs
                corner = (before[0] + 2 * h) * line + (before[1] + 2 * w) * outputs
                for place in range(4):
                    to = corner + place // 2 * line + place % 2 * outputs
                    for k in range(0, outputs, LANES):
                        lanes = outputs - k
                        put(target, to + k, gradient_at(source, places, at + k, np.float32(place), lanes), lanes)
        return
    pad_image(dy, n, before, padded)
    if masked:
        for h in range(height):
            row, start = (before[0] + h) * line + before[1] * outputs, (n * height + h) * inner
            for i in range(0, inner, LANES):
                lanes = inner - i
                gradient = where_positive(get(results, start + i, lanes), get(target, row + i, lanes))
                put(target, row + i, gradient, lanes)


def _direct_forward(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray,
    relu: bool,
    before: Pair,
    stride: Pair,
    packed: np.ndarray,
    padded: np.ndarray,
    rows: np.ndarray,
    y: np.ndarray,
    taps: np.ndarray,
    work: np.ndarray,
    mean: np.ndarray,
    squares: np.ndarray,
) -> None:
    results = np.empty((len(y), *extents(y, taps), y.shape[3]), y.dtype)
    results[...] = bias
    for i, j, out, seen in taps_of(x, results, w.shape[:2], before, stride, (1, 1)):
        results[*out] += x[seen] @ w[i, j]
    finish(results, relu, y, taps)
    if mean.size and len(y):
        _batch_moments(y.reshape(-1, mean.size), work, mean, squares)


@kernel(reference=_direct_forward, types=("float32",), working=("packed", "padded", "rows", "work"))
def direct_forward(x, w, bias, relu, before, stride, packed, padded, rows, y, taps, work, mean, squares):  # type: ignore[no-untyped-def]
    """y = the convolution of x with w, + bias; negative results become 0 if `relu`.

    x (n, height, width, channels); w (kh, kw, channels, outputs); bias (outputs,); before: rows and columns
    of padding above and left of the image; y (n, out height, out width, outputs). If taps has channels, the
    greatest of each 2x2 window is written instead, and to taps its place: both (n, windows down, windows
    across, outputs). If mean has channels, it and `squares` get what `batch_moments` gives of y, if there is an
    image. Working memory: work as there; packed (panels of the outputs, kh * kw * channels, 16); padded (rows,
    columns, channels), which holds an image and all that windows see around it; rows (4 * windows across, panels of
    a tile, 16).
    """
    channels, outputs = x.shape[3], y.shape[3]
    line, depth = padded.shape[1] * channels, w.shape[1] * channels
    pooled = taps.shape[3] > 0
    columns = y.shape[2] * (2 if pooled else 1)
    a, b, c, pair, places = padded.reshape(-1), packed.reshape(-1), y.reshape(-1), rows.reshape(-1), taps.reshape(-1)
    floor = fill(np.float32(0) if relu else LOWEST)
    a_row, a_step = stride[1] * channels, stride[0] * line
    # Not as literals, for which the tiles would be compiled anew.
    wide, breadth = np.int64(LANES), np.int64(PANELS * LANES)
    pack(w.reshape(w.shape[0] * depth, outputs), packed)
    for n in range(x.shape[0]):
        pad_image(x, n, before, padded)
        for panel in range(0, packed.shape[0], PANELS):
            first = panel * LANES
            panels, lanes = panels_from(first, outputs)
            last = first + (panels - 1) * LANES
            start, more = get(bias, first, outputs - first), get(bias, last, outputs - last)
            b0, b_next = first * w.shape[0] * depth, w.shape[0] * depth * LANES
            for oy in range(y.shape[1]):
                c0 = (n * y.shape[1] + oy) * y.shape[2] * outputs + first
                if not pooled:
                    products(
                        a, oy * a_step, a_row, line, b, b0, b_next, wide, w.shape[0], depth, start, more,
                        c, c0, outputs, columns, lanes, floor, panels,
                    )  # fmt: skip
                    continue
                for i in range(2):
                    products(
                        a, (2 * oy + i) * a_step, a_row, line, b, b0, b_next, wide, w.shape[0], depth, start, more,
                        pair, i * columns * breadth, breadth, columns, wide, fill(LOWEST), panels,
                    )  # fmt: skip
                for number in range(panels):
                    k = number * LANES
                    _pool_pair(pair, k, breadth, columns, relu, c, places, c0 + k, outputs, outputs - first - k)
        if mean.size > 0:
            # Image by image, while it is in the cache.
            pixels = y.shape[1] * y.shape[2]
            if n == 0:
                begin_moments(c, 0, pixels, work, mean, squares)
            add_moments(c, n * pixels * outputs, pixels, work, mean, squares)
    if mean.size > 0 and len(y) > 0:
        finish_moments(len(y) * y.shape[1] * y.shape[2], work, mean, squares)


@inlined
def _pool_pair(pair, start, breadth, columns, relu, y, taps, at, outputs, lanes):  # type: ignore[no-untyped-def]
    """Pool two rows of results, whose columns lie `breadth` apart, to one."""
    for column in range(0, columns, 2):
        above, below = start + column * breadth, start + (columns + column) * breadth
        put_greatest(
            load(pair, above), load(pair, above + breadth), load(pair, below), load(pair, below + breadth),
            zero(), relu, y, taps, at + column // 2 * outputs, lanes,
        )  # fmt: skip


@helper
def _taps_of(extent, stride, phase):  # type: ignore[no-untyped-def]
    """Return how many taps of an axis meet the input places of one phase."""
    return max(0, -(-(extent - phase) // stride))


@helper
def _pack_phases(w, stride, packed):  # type: ignore[no-untyped-def]
    """Write the taps of each panel of channels and each phase, turned around: (lines * columns * outputs, 16)."""
    kh, kw, channels, outputs = w.shape
    at = 0
    for first in range(0, channels, LANES):
        lanes = min(LANES, channels - first)
        for ry in range(stride[0]):
            lines = _taps_of(kh, stride[0], ry)
            for rx in range(stride[1]):
                columns = _taps_of(kw, stride[1], rx)
                for i in range(lines):
                    for j in range(columns):
                        tap = w[ry + (lines - 1 - i) * stride[0], rx + (columns - 1 - j) * stride[1]]
                        for k in range(outputs):
                            for lane in range(LANES):
                                packed[at + lane] = tap[first + lane, k] if lane < lanes else np.float32(0)
                            at += LANES


def _direct_input_gradient(
    dy: np.ndarray,
    y: np.ndarray,
    masked: bool,
    taps: np.ndarray,
    w: np.ndarray,
    before: Pair,
    stride: Pair,
    packed: np.ndarray,
    padded: np.ndarray,
    dx: np.ndarray,
) -> None:
    dx.fill(0)
    dy = begin(dy, y, masked, taps)
    for i, j, out, seen in taps_of(dx, dy, w.shape[:2], before, stride, (1, 1)):
        dx[*seen] += dy[out] @ w[i, j].T


@kernel(reference=_direct_input_gradient, types=("float32",), working=("packed", "padded"))
def direct_input_gradient(dy, y, masked, taps, w, before, stride, packed, padded, dx):  # type: ignore[no-untyped-def]
    """dx = the gradient of the images of `direct_forward`; `masked`: a ReLU gave y, so dy counts where y > 0.

    taps: if it has channels, dy is the gradient of 2x2 windows whose greatest values they tell.

    Input pixels of one phase (their place modulo the stride) see the same taps: each phase is a convolution
    of dy with those. Working memory: packed (panels of the channels * kh * kw * outputs * 16,); padded (rows,
    columns, outputs) with (kh - 1) // stride rows of zeros above the gradient and what is needed below,
    columns likewise.
    """
    outputs, channels = dy.shape[3], dx.shape[3]
    height, width = dx.shape[1], dx.shape[2]
    above, aside = (w.shape[0] - 1) // stride[0], (w.shape[1] - 1) // stride[1]
    line = padded.shape[1] * outputs
    a, c = padded.reshape(-1), dx.reshape(-1)
    floor, start = fill(LOWEST), zero()
    wide = np.int64(LANES)
    if w.shape[0] < stride[0] or w.shape[1] < stride[1]:
        c[:] = 0
    _pack_phases(w, stride, packed)
    for n in range(dx.shape[0]):
        pad_gradient(dy, y, masked, taps, n, (above, aside), padded)
        for first in range(0, channels, PANELS * LANES):
            panels, lanes = panels_from(first, channels)
            b_next = w.shape[0] * w.shape[1] * outputs * LANES
            b0 = first // LANES * b_next
            for ry in range(stride[0]):
                # Row h of the input has phase ry if h = q * stride + ry - before; q0 is the first q in the image.
                lines, q0 = _taps_of(w.shape[0], stride[0], ry), -((ry - before[0]) // stride[0])
                top = q0 * stride[0] + ry - before[0]
                for rx in range(stride[1]):
                    columns, p0 = _taps_of(w.shape[1], stride[1], rx), -((rx - before[1]) // stride[1])
                    left = p0 * stride[1] + rx - before[1]
                    count = -(-(width - left) // stride[1])
                    depth, c_row = columns * outputs, stride[1] * channels
                    a1 = (1 - lines + above) * line + (p0 - columns + 1 + aside) * outputs
                    if lines > 0 and columns > 0 and count > 0:
                        for h in range(top, height, stride[0]):
                            a0 = a1 + (q0 + (h - top) // stride[0]) * line
                            c0 = ((n * height + h) * width + left) * channels + first
                            products(
                                a, a0, outputs, line, packed, b0, b_next, wide, lines, depth, start, start,
                                c, c0, c_row, count, lanes, floor, panels,
                            )  # fmt: skip
                    b0 += lines * depth * LANES
