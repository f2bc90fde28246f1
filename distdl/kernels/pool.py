"""Pooling of NHWC images: the maximum and the mean of windows."""

import numpy as np

from .registry import kernel
from .taps import Pair


def _max_pool_forward(x: np.ndarray, window: Pair, stride: Pair, padding: Pair, y: np.ndarray, tap: np.ndarray) -> None:
    height, width = y.shape[1:3]
    pads = ((0, 0), (padding[0], padding[0]), (padding[1], padding[1]), (0, 0))
    padded = np.pad(x, pads)
    inside = np.pad(np.ones(x.shape, bool), pads)
    tap.fill(-1)
    for i in range(window[0]):
        for j in range(window[1]):
            rows = slice(i, i + (height - 1) * stride[0] + 1, stride[0])
            columns = slice(j, j + (width - 1) * stride[1] + 1, stride[1])
            value = padded[:, rows, columns]
            better = inside[:, rows, columns] & ((tap < 0) | (value > y) | np.isnan(value))
            y[better] = value[better]
            tap[better] = i * window[1] + j


@kernel(reference=_max_pool_forward)
def max_pool_forward(x, window, stride, padding, y, tap):  # type: ignore[no-untyped-def]
    """y = the greatest value of each window, NaN if it holds one; tap = its place, row by row, in the window.

    x (n, height, width, channels); y and tap (int32) (n, out height, out width, channels).
    """
    for n in range(y.shape[0]):
        for oy in range(y.shape[1]):
            for ox in range(y.shape[2]):
                first = True
                for i in range(window[0]):
                    h = oy * stride[0] - padding[0] + i
                    if h < 0 or h >= x.shape[1]:
                        continue
                    for j in range(window[1]):
                        w = ox * stride[1] - padding[1] + j
                        if w < 0 or w >= x.shape[2]:
                            continue
                        place = np.int32(i * window[1] + j)
                        if first:
                            first = False
                            for c in range(y.shape[3]):
                                y[n, oy, ox, c] = x[n, h, w, c]
                                tap[n, oy, ox, c] = place
                        else:
                            for c in range(y.shape[3]):
                                value = x[n, h, w, c]
                                best = y[n, oy, ox, c]
                                better = (value > best) | (value != value)
                                y[n, oy, ox, c] = value if better else best
                                tap[n, oy, ox, c] = place if better else tap[n, oy, ox, c]


def _max_pool_backward(
    dy: np.ndarray, tap: np.ndarray, window: Pair, stride: Pair, padding: Pair, dx: np.ndarray
) -> None:
    dx.fill(0)
    n, oy, ox, c = np.indices(dy.shape)
    row, column = np.divmod(tap.astype(np.int64), window[1])
    h, w = oy * stride[0] - padding[0] + row, ox * stride[1] - padding[1] + column
    np.add.at(dx, (n, h, w, c), dy)


@kernel(reference=_max_pool_backward)
def max_pool_backward(dy, tap, window, stride, padding, dx):  # type: ignore[no-untyped-def]
    """dx = the sum of the gradients of the windows whose greatest value is here."""
    zero = dy.dtype.type(0)
    dx[...] = zero
    for n in range(dy.shape[0]):
        for oy in range(dy.shape[1]):
            for ox in range(dy.shape[2]):
                for i in range(window[0]):
                    h = oy * stride[0] - padding[0] + i
                    if h < 0 or h >= dx.shape[1]:
                        continue
                    for j in range(window[1]):
                        w = ox * stride[1] - padding[1] + j
                        if w < 0 or w >= dx.shape[2]:
                            continue
                        place = np.int32(i * window[1] + j)
                        for c in range(dy.shape[3]):
                            dx[n, h, w, c] += dy[n, oy, ox, c] if tap[n, oy, ox, c] == place else zero


def _mean_pool_forward(
    x: np.ndarray, rows: np.ndarray, columns: np.ndarray, divisor: np.ndarray, y: np.ndarray
) -> None:
    for oy, (top, bottom) in enumerate(rows):
        for ox, (left, right) in enumerate(columns):
            total = x[:, top:bottom, left:right].sum(axis=(1, 2), dtype=np.float64)
            y[:, oy, ox] = total / divisor[oy, ox]


@kernel(reference=_mean_pool_forward)
def mean_pool_forward(x, rows, columns, divisor, y):  # type: ignore[no-untyped-def]
    """y = the sum of each window, divided by `divisor` (float64, one for each window of an image).

    rows, columns: where the windows start and end, int64 of shape (out height, 2), (out width, 2).
    """
    for n in range(y.shape[0]):
        for oy in range(y.shape[1]):
            for ox in range(y.shape[2]):
                for c in range(y.shape[3]):
                    y[n, oy, ox, c] = 0
                for h in range(rows[oy, 0], rows[oy, 1]):
                    for w in range(columns[ox, 0], columns[ox, 1]):
                        for c in range(y.shape[3]):
                            y[n, oy, ox, c] += x[n, h, w, c]
                scale = x.dtype.type(1 / divisor[oy, ox])
                for c in range(y.shape[3]):
                    y[n, oy, ox, c] *= scale


def _mean_pool_backward(
    dy: np.ndarray, rows: np.ndarray, columns: np.ndarray, divisor: np.ndarray, dx: np.ndarray
) -> None:
    dx.fill(0)
    for oy, (top, bottom) in enumerate(rows):
        for ox, (left, right) in enumerate(columns):
            dx[:, top:bottom, left:right] += dy[:, oy, None, ox, None] / dy.dtype.type(divisor[oy, ox])


@kernel(reference=_mean_pool_backward)
def mean_pool_backward(dy, rows, columns, divisor, dx):  # type: ignore[no-untyped-def]
    """dx = the sum over the windows that hold this value of their gradient / divisor."""
    dx[...] = dy.dtype.type(0)
    for n in range(dy.shape[0]):
        for oy in range(dy.shape[1]):
            for ox in range(dy.shape[2]):
                scale = dy.dtype.type(1 / divisor[oy, ox])
                for h in range(rows[oy, 0], rows[oy, 1]):
                    for w in range(columns[ox, 0], columns[ox, 1]):
                        for c in range(dy.shape[3]):
                            dx[n, h, w, c] += dy[n, oy, ox, c] * scale
