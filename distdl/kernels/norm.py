"""Normalisation: of columns over rows (batch norm), and of rows (layer norm)."""

import math

import numpy as np

from .registry import kernel
from .sums import BLOCK


def _moments(x: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> None:
    mean[...] = x.mean(axis=0, dtype=np.float64)
    variance[...] = np.square(x - x.mean(axis=0, dtype=np.float64)).mean(axis=0)


@kernel(reference=_moments)
def moments(x, mean, variance):  # type: ignore[no-untyped-def]
    """Mean and (biased) variance of each column of x (rows, columns), which has one row or more."""
    rows, columns = x.shape
    total = np.zeros(columns, np.float64)
    part = np.empty(columns, x.dtype)
    for start in range(0, rows, BLOCK):
        part[:] = x.dtype.type(0)
        for i in range(start, min(start + BLOCK, rows)):
            for k in range(columns):
                part[k] += x[i, k]
        for k in range(columns):
            total[k] += part[k]
    for k in range(columns):
        mean[k] = total[k] / rows
        total[k] = 0.0
    for start in range(0, rows, BLOCK):
        part[:] = x.dtype.type(0)
        for i in range(start, min(start + BLOCK, rows)):
            for k in range(columns):
                distance = x[i, k] - mean[k]
                part[k] += distance * distance
        for k in range(columns):
            total[k] += part[k]
    for k in range(columns):
        variance[k] = total[k] / rows


def _scale_columns(x: np.ndarray, mean: np.ndarray, scale: np.ndarray, shift: np.ndarray, y: np.ndarray) -> None:
    y[...] = (x - mean) * scale + shift


@kernel(reference=_scale_columns)
def scale_columns(x, mean, scale, shift, y):  # type: ignore[no-untyped-def]
    """y = (x - mean) * scale + shift, column by column."""
    for i in range(x.shape[0]):
        for k in range(x.shape[1]):
            y[i, k] = (x[i, k] - mean[k]) * scale[k] + shift[k]


def _norm_sums(x: np.ndarray, dy: np.ndarray, mean: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
    wide = dy.astype(np.float64)
    weight[...] = (wide * (x - mean)).sum(axis=0)
    bias[...] = wide.sum(axis=0)


@kernel(reference=_norm_sums)
def norm_sums(x, dy, mean, weight, bias):  # type: ignore[no-untyped-def]
    """weight = the sum over rows of dy * (x - mean), bias = that of dy; both float64 (columns,)."""
    rows, columns = x.shape
    part = np.empty((2, columns), x.dtype)
    weight[:] = 0.0
    bias[:] = 0.0
    for start in range(0, rows, BLOCK):
        part[:] = x.dtype.type(0)
        for i in range(start, min(start + BLOCK, rows)):
            for k in range(columns):
                part[0, k] += dy[i, k] * (x[i, k] - mean[k])
                part[1, k] += dy[i, k]
        for k in range(columns):
            weight[k] += part[0, k]
            bias[k] += part[1, k]


def _norm_input(
    x: np.ndarray,
    dy: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    slope: np.ndarray,
    shift: np.ndarray,
    dx: np.ndarray,
) -> None:
    dx[...] = scale * (dy - shift - (x - mean) * slope)


@kernel(reference=_norm_input)
def norm_input(x, dy, mean, scale, slope, shift, dx):  # type: ignore[no-untyped-def]
    """dx = scale * (dy - shift - (x - mean) * slope), column by column."""
    for i in range(x.shape[0]):
        for k in range(x.shape[1]):
            dx[i, k] = scale[k] * (dy[i, k] - shift[k] - (x[i, k] - mean[k]) * slope[k])


def _layer_norm(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    eps: float,
    y: np.ndarray,
    mean: np.ndarray,
    inverse: np.ndarray,
) -> None:
    mean[...] = x.mean(axis=1, dtype=np.float64)
    inverse[...] = 1 / np.sqrt(np.square(x - mean[:, None]).mean(axis=1, dtype=np.float64) + eps)
    y[...] = (x - mean[:, None]) * inverse[:, None] * weight + bias


@kernel(reference=_layer_norm, reassociate=True)
def layer_norm(x, weight, bias, eps, y, mean, inverse):  # type: ignore[no-untyped-def]
    """Normalise each row of x (rows, columns); mean and inverse (1 / standard deviation) are kept, (rows,)."""
    columns = x.shape[1]
    for i in range(x.shape[0]):
        total = 0.0
        for k in range(columns):
            total += x[i, k]
        centre = x.dtype.type(total / columns)
        total = 0.0
        for k in range(columns):
            distance = x[i, k] - centre
            total += distance * distance
        scale = x.dtype.type(1 / math.sqrt(total / columns + eps))
        mean[i], inverse[i] = centre, scale
        for k in range(columns):
            y[i, k] = (x[i, k] - centre) * scale * weight[k] + bias[k]


def _layer_norm_backward(
    x: np.ndarray,
    dy: np.ndarray,
    weight: np.ndarray,
    mean: np.ndarray,
    inverse: np.ndarray,
    dx: np.ndarray,
    dweight: np.ndarray,
    dbias: np.ndarray,
) -> None:
    normal = (x - mean[:, None]) * inverse[:, None]
    dweight[...] = (dy * normal).sum(axis=0, dtype=np.float64)
    dbias[...] = dy.sum(axis=0, dtype=np.float64)
    g = dy * weight
    slope = (g * normal).mean(axis=1, keepdims=True)
    dx[...] = inverse[:, None] * (g - g.mean(axis=1, keepdims=True) - normal * slope)


@kernel(reference=_layer_norm_backward, reassociate=True)
def layer_norm_backward(x, dy, weight, mean, inverse, dx, dweight, dbias):  # type: ignore[no-untyped-def]
    """The gradients of `layer_norm`; dweight and dbias are float64 (columns,)."""
    columns = x.shape[1]
    real = x.dtype.type
    dweight[:] = 0.0
    dbias[:] = 0.0
    for i in range(x.shape[0]):
        centre, scale = mean[i], inverse[i]
        total = 0.0
        product = 0.0
        for k in range(columns):
            normal = (x[i, k] - centre) * scale
            g = dy[i, k] * weight[k]
            dweight[k] += dy[i, k] * normal
            dbias[k] += dy[i, k]
            total += g
            product += g * normal
        shift, slope = real(total / columns), real(product / columns)
        for k in range(columns):
            normal = (x[i, k] - centre) * scale
            dx[i, k] = scale * (dy[i, k] * weight[k] - shift - normal * slope)
