"""The gradient of the weights of a direct convolution (`direct.py`), image by image."""

import numpy as np

from .direct import pad_image
from .registry import helper, kernel
from .simd import LANES, add, fill, store, where_equal, where_positive, zero
from .taps import Pair
from .taps import taps as taps_of
from .tiles import PANELS, get, outer_products, panels_from, put
from .windows import begin


def _direct_weight_gradient(
    x: np.ndarray,
    dy: np.ndarray,
    y: np.ndarray,
    masked: bool,
    taps: np.ndarray,
    before: Pair,
    stride: Pair,
    padded: np.ndarray,
    rows: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray,
) -> None:
    dy = begin(dy, y, masked, taps)
    db[...] = dy.sum(axis=(0, 1, 2), dtype=np.float64)
    dw.fill(0)
    for i, j, out, seen in taps_of(x, dy, dw.shape[:2], before, stride, (1, 1)):
        dw[i, j] = np.tensordot(x[seen], dy[out], ((0, 1, 2), (0, 1, 2)))


@helper
def _gradient_rows(dy, y, masked, n, rows, db):  # type: ignore[no-untyped-def]
    """Copy gradient image n, 0 where `masked` and y is not positive, to rows of whole vectors; add their sum to db."""
    outputs, width = dy.shape[3], rows.shape[1]
    source, result, target = dy.reshape(-1), y.reshape(-1), rows.reshape(-1)
    pixels = dy.shape[1] * dy.shape[2]
    for first in range(0, width, LANES):
        lanes = outputs - first
        total = zero()
        for pixel in range(pixels):
            at = (n * pixels + pixel) * outputs + first
            gradient = get(source, at, lanes)
            if masked:
                gradient = where_positive(get(result, at, lanes), gradient)
            total = add(total, gradient)
            store(target, pixel * width + first, gradient)
        put(db, first, add(get(db, first, lanes), total), lanes)


@helper
def _window_rows(dy, taps, n, rows, db):  # type: ignore[no-untyped-def]
    """Do what `_gradient_rows` does for gradients of 2x2 windows."""
    outputs, width = dy.shape[3], rows.shape[1]
    source, places, target = dy.reshape(-1), taps.reshape(-1), rows.reshape(-1)
    line = 2 * dy.shape[2] * width
    for first in range(0, width, LANES):
        lanes = outputs - first
        total = zero()
        for h in range(dy.shape[1]):
            for w in range(dy.shape[2]):
                at = ((n * dy.shape[1] + h) * dy.shape[2] + w) * outputs + first
                gradient, place = get(source, at, lanes), get(places, at, lanes)
                total = add(total, where_positive(add(place, fill(np.float32(1))), gradient))
                to = 2 * h * line + 2 * w * width + first
                store(target, to, where_equal(place, fill(np.float32(0)), gradient))
                store(target, to + width, where_equal(place, fill(np.float32(1)), gradient))
                store(target, to + line, where_equal(place, fill(np.float32(2)), gradient))
                store(target, to + line + width, where_equal(place, fill(np.float32(3)), gradient))
        put(db, first, add(get(db, first, lanes), total), lanes)


@kernel(reference=_direct_weight_gradient, types=("float32",), working=("padded", "rows"))
def direct_weight_gradient(x, dy, y, masked, taps, before, stride, padded, rows, dw, db):  # type: ignore[no-untyped-def]
    """dw, db = the gradients of weights and bias of `direct_forward`, summed over the images in their order.

    taps: if it has channels, dy is the gradient of 2x2 windows whose greatest values they tell. Working
    memory: padded as there; rows (pixels of the results, outputs rounded up to 16).
    """
    kh, kw, channels, outputs = dw.shape
    line, step = padded.shape[1] * channels, stride[1] * channels
    size = 2 if taps.shape[3] else 1
    lines, columns = dy.shape[1] * size, dy.shape[2] * size
    a, b, c = padded.reshape(-1), rows.reshape(-1), dw.reshape(-1)
    wide = np.int64(LANES)
    if len(x) == 0:
        c[:] = 0
    db[:] = 0
    for n in range(x.shape[0]):
        pad_image(x, n, before, padded)
        if taps.shape[3]:
            _window_rows(dy, taps, n, rows, db)
        else:
            _gradient_rows(dy, y, masked, n, rows, db)
        for first in range(0, outputs, PANELS * LANES):
            panels, lanes = panels_from(first, outputs)
            for i in range(kh):
                outer_products(
                    a, i * line, stride[0] * line, step, b, first, wide, rows.shape[1], lines, columns,
                    c, i * kw * channels * outputs + first, outputs, kw * channels, lanes, n > 0, panels,
                )  # fmt: skip
