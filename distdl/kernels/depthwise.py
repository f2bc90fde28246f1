"""Convolution of each channel with a kernel of its own, where matrix products would be a column wide."""

import numpy as np

from .registry import kernel
from .taps import Pair, taps


def _depthwise_forward(x: np.ndarray, w: np.ndarray, before: Pair, stride: Pair, dilation: Pair, y: np.ndarray) -> None:
    y.fill(0)
    for i, j, out, seen in taps(x, y, w.shape[:2], before, stride, dilation):
        y[out] += x[seen] * w[i, j]


@kernel(reference=_depthwise_forward)
def depthwise_forward(x, w, before, stride, dilation, y):  # type: ignore[no-untyped-def]
    """y[n, oy, ox, c] = sum over taps of x[n, oy * stride - before + i * dilation, (likewise), c] * w[i, j, c]."""
    y[...] = x.dtype.type(0)
    for n in range(y.shape[0]):
        for oy in range(y.shape[1]):
            for ox in range(y.shape[2]):
                for i in range(w.shape[0]):
                    h = oy * stride[0] - before[0] + i * dilation[0]
                    if h < 0 or h >= x.shape[1]:
                        continue
                    for j in range(w.shape[1]):
                        ww = ox * stride[1] - before[1] + j * dilation[1]
                        if ww < 0 or ww >= x.shape[2]:
                            continue
                        for c in range(y.shape[3]):
                            y[n, oy, ox, c] += x[n, h, ww, c] * w[i, j, c]


def _depthwise_input_gradient(
    dy: np.ndarray, w: np.ndarray, before: Pair, stride: Pair, dilation: Pair, dx: np.ndarray
) -> None:
    dx.fill(0)
    for i, j, out, seen in taps(dx, dy, w.shape[:2], before, stride, dilation):
        dx[seen] += dy[out] * w[i, j]


@kernel(reference=_depthwise_input_gradient)
def depthwise_input_gradient(dy, w, before, stride, dilation, dx):  # type: ignore[no-untyped-def]
    """dx = the gradient of `depthwise_forward` by x, for the gradient dy of its result."""
    dx[...] = dy.dtype.type(0)
    for n in range(dy.shape[0]):
        for oy in range(dy.shape[1]):
            for ox in range(dy.shape[2]):
                for i in range(w.shape[0]):
                    h = oy * stride[0] - before[0] + i * dilation[0]
                    if h < 0 or h >= dx.shape[1]:
                        continue
                    for j in range(w.shape[1]):
                        ww = ox * stride[1] - before[1] + j * dilation[1]
                        if ww < 0 or ww >= dx.shape[2]:
                            continue
                        for c in range(dy.shape[3]):
                            dx[n, h, ww, c] += dy[n, oy, ox, c] * w[i, j, c]


def _depthwise_weight_gradient(
    x: np.ndarray, dy: np.ndarray, before: Pair, stride: Pair, dilation: Pair, dw: np.ndarray
) -> None:
    dw.fill(0)
    for i, j, out, seen in taps(x, dy, dw.shape[:2], before, stride, dilation):
        dw[i, j] = (x[seen] * dy[out]).sum(axis=(0, 1, 2), dtype=np.float64)


@kernel(reference=_depthwise_weight_gradient)
def depthwise_weight_gradient(x, dy, before, stride, dilation, dw):  # type: ignore[no-untyped-def]
    """dw = the gradient of `depthwise_forward` by w; summed row by row, so that sums do not drift."""
    dw[...] = x.dtype.type(0)
    part = np.zeros(dy.shape[3], x.dtype)
    for n in range(dy.shape[0]):
        for oy in range(dy.shape[1]):
            for i in range(dw.shape[0]):
                h = oy * stride[0] - before[0] + i * dilation[0]
                if h < 0 or h >= x.shape[1]:
                    continue
                for j in range(dw.shape[1]):
                    part[:] = x.dtype.type(0)
                    for ox in range(dy.shape[2]):
                        ww = ox * stride[1] - before[1] + j * dilation[1]
                        if ww < 0 or ww >= x.shape[2]:
                            continue
                        for c in range(dy.shape[3]):
                            part[c] += x[n, h, ww, c] * dy[n, oy, ox, c]
                    for c in range(dy.shape[3]):
                        dw[i, j, c] += part[c]
