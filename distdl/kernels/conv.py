"""Unfolding of NHWC images into rows of patches, and its transpose: convolutions as matrix products."""

import numpy as np

from .registry import kernel

Pair = tuple[int, int]


def _windows(padded: np.ndarray, first: int, stride: Pair, dilation: Pair, columns: np.ndarray):  # type: ignore[no-untyped-def]
    """Yield (i, j, view of what tap (i, j) sees of padded images) for the shape of `columns`."""
    height, width, kh, kw, channels = columns.shape[1:]
    for i in range(kh):
        for j in range(kw):
            top, left = i * dilation[0], j * dilation[1]
            rows = slice(top, top + (height - 1) * stride[0] + 1, stride[0])
            cols = slice(left, left + (width - 1) * stride[1] + 1, stride[1])
            yield i, j, padded[:, rows, cols, first : first + channels]


def _padding(x: np.ndarray, before: Pair, stride: Pair, dilation: Pair, columns: np.ndarray) -> list[Pair]:
    """Return the pads which make every window of `columns` lie within the image."""
    pads = [(0, 0)]
    for axis in range(2):
        reach = (columns.shape[1 + axis] - 1) * stride[axis] + (columns.shape[3 + axis] - 1) * dilation[axis] + 1
        pads.append((before[axis], max(0, reach - before[axis] - x.shape[1 + axis])))
    return [*pads, (0, 0)]


def _unfold(x: np.ndarray, first: int, before: Pair, stride: Pair, dilation: Pair, columns: np.ndarray) -> None:
    padded = np.pad(x, _padding(x, before, stride, dilation, columns))
    for i, j, view in _windows(padded, first, stride, dilation, columns):
        columns[:, :, :, i, j] = view


@kernel(reference=_unfold)
def unfold(x, first, before, stride, dilation, columns):  # type: ignore[no-untyped-def]
    """columns[n, oy, ox, i, j, c] = x[n, oy * stride - before + i * dilation, (likewise), first + c], or 0 outside.

    x (n, height, width, channels); columns (n, out height, out width, kh, kw, group's channels).
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
    pads = _padding(dx, before, stride, dilation, columns)
    padded = np.pad(dx, pads)
    for i, j, view in _windows(padded, first, stride, dilation, columns):
        view += columns[:, :, :, i, j]
    top, left = before
    dx[...] = padded[:, top : top + dx.shape[1], left : left + dx.shape[2]]


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
