"""Max pooling of 2x2 windows on vectors, as the end of a convolution.

The place of the greatest value (0 to 3, row by row) is kept as a float, so that choosing by it is one
comparison; -1 says that a ReLU let nothing through.
"""

import numpy as np

from .registry import inlined
from .simd import add, at_least, fill, sub, where_equal, where_greater, where_positive
from .taps import Pair
from .tiles import get_masked, put

_f = np.float32


def extents(y: np.ndarray, taps: np.ndarray) -> Pair:
    """Return height and width of the results before pooling, less those that no window holds."""
    size = 2 if taps.shape[3] else 1
    return y.shape[1] * size, y.shape[2] * size


def finish(results: np.ndarray, relu: bool, y: np.ndarray, taps: np.ndarray) -> None:
    """Write results to y, after ReLU and pooling: what references of convolutions share."""
    if not taps.shape[3]:
        y[...] = np.maximum(results, 0) if relu else results
        return
    n, height, width, channels = y.shape
    windows = results.reshape(n, height, 2, width, 2, channels).transpose(0, 1, 3, 5, 2, 4).reshape(*y.shape, 4)
    taps[...] = windows.argmax(axis=-1)
    y[...] = windows.max(axis=-1)
    if relu:
        taps[y <= 0] = -1
        np.maximum(y, 0, out=y)


def begin(dy: np.ndarray, y: np.ndarray, masked: bool, taps: np.ndarray) -> np.ndarray:
    """Return the gradient of the results before ReLU and pooling."""
    if not taps.shape[3]:
        return np.where(y > 0, dy, np.float32(0)) if masked else dy
    n, height, width, channels = dy.shape
    windows = (taps[..., None] == np.arange(4)) * dy[..., None]
    pixels = windows.reshape(n, height, width, channels, 2, 2).transpose(0, 1, 4, 2, 5, 3)
    gradient: np.ndarray = pixels.reshape(n, 2 * height, 2 * width, channels).astype(dy.dtype)
    return gradient


@inlined
def put_greatest(a, b, c, d, start, relu, y, taps, at, lanes):  # type: ignore[no-untyped-def]
    """Write the greatest of a window + start, at least 0 if `relu`, and its place."""
    zeros, one = fill(_f(0)), fill(_f(1))
    best = add(a, start)
    value = add(b, start)
    tap, best = where_greater(value, best, one, zeros), where_greater(value, best, value, best)
    value = add(c, start)
    tap, best = where_greater(value, best, fill(_f(2)), tap), where_greater(value, best, value, best)
    value = add(d, start)
    tap, best = where_greater(value, best, fill(_f(3)), tap), where_greater(value, best, value, best)
    if relu:
        best = at_least(best, zeros)
        tap = sub(where_positive(best, add(tap, one)), one)
    put(y, at, best, lanes)
    put(taps, at, tap, lanes)


@inlined
def gradient_at(dy, taps, at, place, lanes):  # type: ignore[no-untyped-def]
    """Return the gradient of a window where its greatest value is at `place`, else 0."""
    return where_equal(get_masked(taps, at, lanes), fill(place), get_masked(dy, at, lanes))
