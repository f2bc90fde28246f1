"""Unfolding of NHWC images into rows of patches, and its transpose: convolutions as matrix products."""

import numpy as np

from .registry import kernel
from .taps import Pair, taps


def _unfold(x: np.ndarray, first: int, before: Pair, stride: Pair, dilation: Pair, columns: np.ndarray) -> None:
    columns.fill(0)
    channels = slice(first, first + columns.shape[5])
    for i, j, out, seen in taps(x, columns, columns.shape[3:5], before, stride, dilation):
        columns[*out, i, j] = x[seen][..., channels]


@kernel(reference=_unfold)
def unfold(x, first, before, stride, dilation, columns):  # type: ignore[no-untyped-def]
    """columns[n, oy, ox, i, j, c] = x[n, oy * stride - before + i * dilation, (likewise), first + c], or 0 outside.

    x (n, height, width, channels); columns (n, out height, out width, kh, kw, group's channels). The first
    row of windows may lie within the image: `before` may be negative.
    """
    height, width = x.shape[1], x.shape[2]
    kh, kw, channels = columns.shape[3], columns.shape[4], columns.shape[5]
    whole = channels == x.shape[3] and dilation[1] == 1
    source, target = x.reshape(-1), columns.reshape(-1)
    zero = x.dtype.type(0)
    place = 0
    for n in range(columns.shape[0]):
        for oy in range(columns.shape[1]):
            for ox in range(columns.shape[2]):
                w = ox * stride[1] - before[1]
                for i in range(kh):
                    h = oy * stride[0] - before[0] + i * dilation[0]
                    inside = 0 <= h < height
                    if whole and inside and w >= 0 and w + kw <= width:
                        # Neighbouring taps of one row of the image are neighbours in memory.
                        start = ((n * height + h) * width + w) * channels
                        run = kw * channels
                        row = target[place : place + run]
                        pixels = source[start : start + run]
                        for k in range(run):
                            row[k] = pixels[k]
                        place += run
                        continue
                    for j in range(kw):
                        ww = w + j * dilation[1]
                        row = target[place : place + channels]
                        if inside and 0 <= ww < width:
                            start = ((n * height + h) * width + ww) * x.shape[3] + first
                            pixels = source[start : start + channels]
                            for k in range(channels):
                                row[k] = pixels[k]
                        else:
                            for k in range(channels):
                                row[k] = zero
                        place += channels


def _fold(columns: np.ndarray, first: int, before: Pair, stride: Pair, dilation: Pair, dx: np.ndarray) -> None:
    channels = slice(first, first + columns.shape[5])
    for i, j, out, seen in taps(dx, columns, columns.shape[3:5], before, stride, dilation):
        dx[*seen, channels] += columns[*out, i, j]


@kernel(reference=_fold)
def fold(columns, first, before, stride, dilation, dx):  # type: ignore[no-untyped-def]
    """Add every value of `columns` to the place of dx that `unfold` takes it from."""
    height, width = dx.shape[1], dx.shape[2]
    kh, kw, channels = columns.shape[3], columns.shape[4], columns.shape[5]
    whole = channels == dx.shape[3] and dilation[1] == 1
    source, target = columns.reshape(-1), dx.reshape(-1)
    place = 0
    for n in range(columns.shape[0]):
        for oy in range(columns.shape[1]):
            for ox in range(columns.shape[2]):
                w = ox * stride[1] - before[1]
                for i in range(kh):
                    h = oy * stride[0] - before[0] + i * dilation[0]
                    if h < 0 or h >= height:
                        place += kw * channels
                        continue
                    if whole and w >= 0 and w + kw <= width:
                        start = ((n * height + h) * width + w) * channels
                        run = kw * channels
                        pixels = target[start : start + run]
                        row = source[place : place + run]
                        for k in range(run):
                            pixels[k] += row[k]
                        place += run
                        continue
                    for j in range(kw):
                        ww = w + j * dilation[1]
                        if 0 <= ww < width:
                            start = ((n * height + h) * width + ww) * dx.shape[3] + first
                            pixels = target[start : start + channels]
                            row = source[place : place + channels]
                            for k in range(channels):
                                pixels[k] += row[k]
                        place += channels
