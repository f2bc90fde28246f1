"""Pooling of NHWC images."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import memory
from ..core.errors import ArgumentError
from ..kernels import halving, pool, pool_vectors
from ..kernels.registry import dense
from ..kernels.taps import Pair
from ..kernels.team import each_part
from .checking import IMAGES, check_images
from .registry import op


def _extents(x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """Return the height and width of the pooled images."""
    extents = []
    for axis, name in enumerate(("height", "width")):
        if 2 * padding[axis] > kernel[axis]:
            raise ArgumentError(f"`padding` (={padding}) must be at most half of the kernel, {kernel}")
        room = x.shape[1 + axis] + 2 * padding[axis]
        if room < kernel[axis]:
            raise ArgumentError(
                f"`x` (shape {x.shape}) must have a padded {name} (={room}) >= {kernel[axis]}, the kernel's: {IMAGES}"
            )
        extents.append((room - kernel[axis]) // stride[axis] + 1)
    return extents[0], extents[1]


@op(reads_inputs=False)
def max_pool2d(x: np.ndarray, *, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> Any:
    """The greatest value of each window, channel by channel; the first of equal ones gets the gradient.

    Args:
        x: images (N, H, W, C).
        kernel, stride: (height, width).
        padding: (height, width), on both sides, with values that never are the greatest.
    """
    check_images(x)
    x = dense(x)
    y = memory.empty((x.shape[0], *_extents(x, kernel, stride, padding), x.shape[3]), x.dtype)
    if x.dtype == np.float32 and kernel == stride == (2, 2) and padding == (0, 0):
        return _halve(x, y)
    is_single = x.dtype == np.float32
    tap = memory.empty(y.shape, np.float32 if is_single else np.int32)
    forward = pool_vectors.max_pool_vectors if is_single else pool.max_pool_forward
    _share(lambda part, x, y, tap: part.call(forward, x, kernel, stride, padding, y, tap), x, y, tap)
    shape = x.shape

    def backward(dy: np.ndarray) -> np.ndarray:
        dx = memory.empty(shape, dy.dtype)
        gather = pool_vectors.max_pool_vectors_backward if is_single else pool.max_pool_backward
        _share(lambda part, dy, tap, dx: part.call(gather, dy, tap, kernel, stride, padding, dx), dense(dy), tap, dx)
        return dx

    return y, backward


def _halve(x: np.ndarray, y: np.ndarray) -> Any:
    """Return result and gradient of windows that halve the image."""
    taps = memory.empty(y.shape, np.float32)
    _share(lambda part, *arrays: part.call(halving.halve_forward, *arrays), x, y, taps)
    shape = x.shape

    def backward(dy: np.ndarray) -> np.ndarray:
        dx = memory.empty(shape, np.float32)
        _share(lambda part, *arrays: part.call(halving.halve_backward, *arrays), dense(dy), taps, dx)
        return dx

    return y, backward


def _share(function: Callable[..., None], *arrays: np.ndarray) -> None:
    """Let threads share arrays of images: `function` is called with a part of the work, and its images."""
    cost = 8 * max(array[0].size for array in arrays) if len(arrays[0]) else 0
    each_part(lambda part: function(part, *(array[part.slice] for array in arrays)), len(arrays[0]), cost)


def _mean_of(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, divisor: np.ndarray) -> Any:
    """Return result and gradient of the sums over windows, divided by `divisor`."""
    y = memory.empty((x.shape[0], len(rows), len(columns), x.shape[3]), x.dtype)
    is_single = x.dtype == np.float32
    forward = pool_vectors.mean_pool_vectors if is_single else pool.mean_pool_forward
    _share(lambda part, x, y: part.call(forward, x, rows, columns, divisor, y), dense(x), y)
    shape = x.shape

    def backward(dy: np.ndarray) -> np.ndarray:
        dx = memory.empty(shape, dy.dtype)
        gather = pool_vectors.mean_pool_vectors_backward if is_single else pool.mean_pool_backward
        _share(lambda part, dy, dx: part.call(gather, dy, rows, columns, divisor, dx), dense(dy), dx)
        return dx

    return y, backward


@op(reads_inputs=False)
def avg_pool2d(
    x: np.ndarray, *, kernel: Pair, stride: Pair, padding: Pair = (0, 0), count_include_pad: bool = True
) -> Any:
    """The mean of each window, channel by channel.

    Args:
        x: images (N, H, W, C).
        kernel, stride: (height, width).
        padding: (height, width), zeros on both sides.
        count_include_pad: whether the padding counts in the mean.
    """
    check_images(x)
    out = _extents(x, kernel, stride, padding)
    windows = []
    for axis in range(2):
        starts = np.arange(out[axis]) * stride[axis] - padding[axis]
        edges = np.stack([starts, starts + kernel[axis]], axis=1)
        windows.append(np.clip(edges, 0, x.shape[1 + axis]))
    if count_include_pad:
        divisor = np.full(out, float(kernel[0] * kernel[1]))
    else:
        divisor = _areas(*windows)
    return _mean_of(x, windows[0], windows[1], divisor)


@op(reads_inputs=False)
def adaptive_avg_pool2d(x: np.ndarray, *, output_size: Pair) -> Any:
    """The means of windows that cover the image evenly: of row i from floor(i H / out) to ceil((i + 1) H / out).

    Args:
        x: images (N, H, W, C).
        output_size: (height, width) of the result.
    """
    check_images(x)
    if 0 in x.shape[1:3]:
        raise ArgumentError(f"`x` (shape {x.shape}) must have a pixel or more: {IMAGES}")
    windows = []
    for extent, size in zip(x.shape[1:3], output_size, strict=True):
        places = np.arange(size)
        windows.append(np.stack([places * extent // size, -(-(places + 1) * extent // size)], axis=1))
    return _mean_of(x, windows[0], windows[1], _areas(*windows))


def _areas(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return np.outer(rows[:, 1] - rows[:, 0], columns[:, 1] - columns[:, 0]).astype(np.float64)
