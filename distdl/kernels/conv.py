"""Unfolding of NHWC images into rows of patches, and its transpose: convolutions as matrix products."""

from typing import Any

import numpy as np

from .registry import helper, kernel
from .taps import Pair, taps


@helper
def _copy(target: Any, at: int, source: Any, start: int, count: int) -> None:
    # Through slices: their indices are known not to be negative, and the loop becomes vector moves.
    row, pixels = target[at : at + count], source[start : start + count]
    for k in range(count):
        row[k] = pixels[k]


@helper
def _add(target: Any, at: int, source: Any, start: int, count: int) -> None:
    row, pixels = target[at : at + count], source[start : start + count]
    for k in range(count):
        row[k] += pixels[k]


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
                        _copy(target, place, source, start, kw * channels)
                        place += kw * channels
                        continue
                    for j in range(kw):
                        ww = w + j * dilation[1]
                        if inside and 0 <= ww < width:
                            start = ((n * height + h) * width + ww) * x.shape[3] + first
                            _copy(target, place, source, start, channels)
                        else:
                            target[place : place + channels] = zero
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
                        _add(target, start, source, place, kw * channels)
                        place += kw * channels
                        continue
                    for j in range(kw):
                        ww = w + j * dilation[1]
                        if 0 <= ww < width:
                            start = ((n * height + h) * width + ww) * dx.shape[3] + first
                            _add(target, start, source, place, channels)
                        place += channels
