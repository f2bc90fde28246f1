"""Pooling of float32 images on vectors of channels; `pool.py` has other types, `halving.py` windows of 2x2."""

import numpy as np

from .pool import _max_pool_backward, _max_pool_forward, _mean_pool_backward, _mean_pool_forward
from .registry import helper, inlined, kernel
from .simd import LANES, add, fill, fma, load, mul, store, where_equal, where_greater, zero
from .tiles import get, put


@helper
def _inside(place, stride, padding, window, extent):  # type: ignore[no-untyped-def]
    """Return where a window starts, and which of its rows (or columns) lie within the image."""
    start = place * stride - padding
    return start, max(0, -start), min(window, extent - start)


@kernel(reference=_max_pool_forward, types=("float32",))
def max_pool_vectors(x, window, stride, padding, y, tap):  # type: ignore[no-untyped-def]
    """y = the greatest value of each window; tap (float32) = its place in the window: see `pool.max_pool_forward`."""
    channels, width = x.shape[3], x.shape[2]
    values, results, taps = x.reshape(-1), y.reshape(-1), tap.reshape(-1)
    for n in range(y.shape[0]):
        for oy in range(y.shape[1]):
            top, i0, i1 = _inside(oy, stride[0], padding[0], window[0], x.shape[1])
            for ox in range(y.shape[2]):
                left, j0, j1 = _inside(ox, stride[1], padding[1], window[1], width)
                pixel = ((n * x.shape[1] + top) * width + left) * channels
                to = ((n * y.shape[1] + oy) * y.shape[2] + ox) * channels
                for k in range(0, channels, LANES):
                    lanes = channels - k
                    best = get(values, pixel + (i0 * width + j0) * channels + k, lanes)
                    place = fill(np.float32(i0 * window[1] + j0))
                    for i in range(i0, i1):
                        for j in range(j0, j1):
                            value = get(values, pixel + (i * width + j) * channels + k, lanes)
                            here = fill(np.float32(i * window[1] + j))
                            place = where_greater(value, best, here, place)
                            best = where_greater(value, best, value, best)
                    put(results, to + k, best, lanes)
                    put(taps, to + k, place, lanes)


@kernel(reference=_max_pool_backward, types=("float32",))
def max_pool_vectors_backward(dy, tap, window, stride, padding, dx):  # type: ignore[no-untyped-def]
    """dx = the sum of the gradients of the windows whose greatest value is here."""
    channels, width = dx.shape[3], dx.shape[2]
    gradients, taps, target = dy.reshape(-1), tap.reshape(-1), dx.reshape(-1)
    for n in range(dy.shape[0]):
        dx[n] = np.float32(0)
        for oy in range(dy.shape[1]):
            top, i0, i1 = _inside(oy, stride[0], padding[0], window[0], dx.shape[1])
            for ox in range(dy.shape[2]):
                left, j0, j1 = _inside(ox, stride[1], padding[1], window[1], width)
                pixel = ((n * dx.shape[1] + top) * width + left) * channels
                at = ((n * dy.shape[1] + oy) * dy.shape[2] + ox) * channels
                for k in range(0, channels, LANES):
                    lanes = channels - k
                    gradient, place = get(gradients, at + k, lanes), get(taps, at + k, lanes)
                    for i in range(i0, i1):
                        for j in range(j0, j1):
                            to = pixel + (i * width + j) * channels + k
                            here = fill(np.float32(i * window[1] + j))
                            put(target, to, add(get(target, to, lanes), where_equal(place, here, gradient)), lanes)


@inlined
def _sum_window(x, at, line, channels, rows, columns, lanes):  # type: ignore[no-untyped-def]
    """Return the sum of a window's pixels, one vector each."""
    # Two sums do not wait for each other.
    even, odd = zero(), zero()
    for h in range(rows):
        for w in range(0, columns - 1, 2):
            even = add(even, get(x, at + h * line + w * channels, lanes))
            odd = add(odd, get(x, at + h * line + (w + 1) * channels, lanes))
        if columns % 2 == 1:
            even = add(even, get(x, at + h * line + (columns - 1) * channels, lanes))
    return add(even, odd)


@inlined
def _sum_window_4(x, at, line, channels, rows, columns):  # type: ignore[no-untyped-def]
    """Return the sum of a window's pixels, four vectors each."""
    a, b, c, d = zero(), zero(), zero(), zero()
    for h in range(rows):
        for w in range(columns):
            i = at + h * line + w * channels
            a, b = add(a, load(x, i)), add(b, load(x, i + LANES))
            c, d = add(c, load(x, i + 2 * LANES)), add(d, load(x, i + 3 * LANES))
    return a, b, c, d


@kernel(reference=_mean_pool_forward, types=("float32",))
def mean_pool_vectors(x, rows, columns, divisor, y):  # type: ignore[no-untyped-def]
    """y = the sum of each window, divided by `divisor`: see `pool.mean_pool_forward`."""
    channels, line = x.shape[3], x.shape[2] * x.shape[3]
    values, results = x.reshape(-1), y.reshape(-1)
    for n in range(y.shape[0]):
        for oy in range(y.shape[1]):
            height = rows[oy, 1] - rows[oy, 0]
            for ox in range(y.shape[2]):
                width = columns[ox, 1] - columns[ox, 0]
                at = (n * x.shape[1] + rows[oy, 0]) * line + columns[ox, 0] * channels
                to = ((n * y.shape[1] + oy) * y.shape[2] + ox) * channels
                scale = fill(np.float32(1 / divisor[oy, ox]))
                k = 0
                while k + 4 * LANES <= channels:
                    a, b, c, d = _sum_window_4(values, at + k, line, channels, height, width)
                    store(results, to + k, mul(a, scale))
                    store(results, to + k + LANES, mul(b, scale))
                    store(results, to + k + 2 * LANES, mul(c, scale))
                    store(results, to + k + 3 * LANES, mul(d, scale))
                    k += 4 * LANES
                while k < channels:
                    total = _sum_window(values, at + k, line, channels, height, width, channels - k)
                    put(results, to + k, mul(total, scale), channels - k)
                    k += LANES


@helper
def _window_after(windows, place, first):  # type: ignore[no-untyped-def]
    """Return the first window, not before `first`, that ends behind `place`."""
    while first < windows.shape[0] and windows[first, 1] <= place:
        first += 1
    return first


@helper
def _are_apart(windows):  # type: ignore[no-untyped-def]
    return (windows[1:, 0] >= windows[:-1, 1]).all()


@helper
def _covered(windows):  # type: ignore[no-untyped-def]
    return (windows[:, 1] - windows[:, 0]).sum()


@helper
def _spread_means(dy, rows, columns, divisor, dx):  # type: ignore[no-untyped-def]
    """dx = the gradient of the window that holds this value / divisor, where windows do not overlap."""
    channels, line = dx.shape[3], dx.shape[2] * dx.shape[3]
    gradients, target = dy.reshape(-1), dx.reshape(-1)
    has_gaps = _covered(rows) * _covered(columns) < dx.shape[1] * dx.shape[2]
    for n in range(dx.shape[0]):
        if has_gaps:
            dx[n] = np.float32(0)
        for oy in range(dy.shape[1]):
            for ox in range(dy.shape[2]):
                at = ((n * dy.shape[1] + oy) * dy.shape[2] + ox) * channels
                scale = fill(np.float32(1 / divisor[oy, ox]))
                for k in range(0, channels, LANES):
                    lanes = channels - k
                    gradient = mul(get(gradients, at + k, lanes), scale)
                    for h in range(rows[oy, 0], rows[oy, 1]):
                        to = (n * dx.shape[1] + h) * line + k
                        for w in range(columns[ox, 0], columns[ox, 1]):
                            put(target, to + w * channels, gradient, lanes)


@kernel(reference=_mean_pool_backward, types=("float32",))
def mean_pool_vectors_backward(dy, rows, columns, divisor, dx):  # type: ignore[no-untyped-def]
    """dx = the sum over the windows that hold this value of their gradient / divisor."""
    if _are_apart(rows) and _are_apart(columns):
        _spread_means(dy, rows, columns, divisor, dx)
        return
    channels = dx.shape[3]
    gradients, target = dy.reshape(-1), dx.reshape(-1)
    for n in range(dx.shape[0]):
        top = 0
        for h in range(dx.shape[1]):
            top = _window_after(rows, h, top)
            left = 0
            for w in range(dx.shape[2]):
                left = _window_after(columns, w, left)
                to = ((n * dx.shape[1] + h) * dx.shape[2] + w) * channels
                for k in range(0, channels, LANES):
                    lanes = channels - k
                    total = zero()
                    oy = top
                    while oy < dy.shape[1] and rows[oy, 0] <= h:
                        ox = left
                        while ox < dy.shape[2] and columns[ox, 0] <= w:
                            at = ((n * dy.shape[1] + oy) * dy.shape[2] + ox) * channels + k
                            total = fma(get(gradients, at, lanes), fill(np.float32(1 / divisor[oy, ox])), total)
                            ox += 1
                        oy += 1
                    put(target, to + k, total, lanes)
