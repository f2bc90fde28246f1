"""Reductions over axes."""

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from .registry import op

Axis = int | tuple[int, ...] | None


def _expand(dy: np.ndarray, shape: tuple[int, ...], axis: Axis, keepdims: bool) -> np.ndarray:
    """Give back the reduced axes, of extent 1, to a gradient, or to a result."""
    if keepdims or (axis is None and dy.ndim == len(shape)):
        return dy
    return np.expand_dims(dy, _axes(shape, axis))


def _count(shape: tuple[int, ...], axis: Axis) -> int:
    return math.prod(shape[i] for i in _axes(shape, axis))


def _axes(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    return tuple(range(len(shape))) if axis is None else normalize_axis_tuple(axis, len(shape))


@op(reads_inputs=False)
def sum(x: np.ndarray, *, axis: Axis = None, keepdims: bool = False) -> Any:
    shape = x.shape

    def backward(dy: np.ndarray) -> Any:
        return np.broadcast_to(_expand(dy, shape, axis, keepdims), shape)

    return x.sum(axis=axis, keepdims=keepdims), backward


@op(reads_inputs=False)
def mean(x: np.ndarray, *, axis: Axis = None, keepdims: bool = False) -> Any:
    shape = x.shape

    def backward(dy: np.ndarray) -> Any:
        return np.broadcast_to(_expand(dy, shape, axis, keepdims) / (_count(shape, axis) or 1), shape).astype(dy.dtype)

    return x.mean(axis=axis, keepdims=keepdims), backward


@op(reads_inputs=False)
def variance(x: np.ndarray, *, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> Any:
    """The mean square distance from the mean, its sum divided by the count less `correction`."""
    shape = x.shape
    centred = x - x.mean(axis=axis, keepdims=True)
    count = _count(shape, axis) - correction
    y = np.square(centred).sum(axis=axis, keepdims=keepdims) / x.dtype.type(count)

    def backward(dy: np.ndarray) -> Any:
        # As the result is then, so is the gradient: 0 / 0.
        factor = 2 / count if count else math.nan
        return _expand(dy, shape, axis, keepdims) * centred * dy.dtype.type(factor)

    return y, backward


def _extreme(x: np.ndarray, y: np.ndarray, axis: Axis, keepdims: bool) -> Any:
    """Return the result and gradient of max and min: equal extremes share the gradient evenly."""

    def backward(dy: np.ndarray) -> Any:
        hit = (x == _expand(y, x.shape, axis, keepdims)).astype(dy.dtype)
        return _expand(dy, x.shape, axis, keepdims) * hit / hit.sum(axis=axis, keepdims=True)

    return y, backward


@op
def max(x: np.ndarray, *, axis: Axis = None, keepdims: bool = False) -> Any:
    return _extreme(x, np.asarray(x.max(axis=axis, keepdims=keepdims)), axis, keepdims)


@op
def min(x: np.ndarray, *, axis: Axis = None, keepdims: bool = False) -> Any:
    return _extreme(x, np.asarray(x.min(axis=axis, keepdims=keepdims)), axis, keepdims)


@op
def prod(x: np.ndarray, *, axis: int | None = None, keepdims: bool = False) -> Any:
    """The product over one axis, or over all; exact where factors are zero."""

    def backward(dy: np.ndarray) -> Any:
        rows = np.moveaxis(x if axis is not None else x.reshape(-1), axis if axis is not None else 0, 0)
        ones = np.ones((1, *rows.shape[1:]), x.dtype)
        before = np.concatenate([ones, np.cumprod(rows[:-1], axis=0, dtype=x.dtype)])[: len(rows)]
        after = np.concatenate([np.cumprod(rows[:0:-1], axis=0, dtype=x.dtype)[::-1], ones])[-len(rows) :]
        others = before * after
        others = np.moveaxis(others, 0, axis) if axis is not None else others.reshape(x.shape)
        return _expand(dy, x.shape, axis, keepdims) * others

    return x.prod(axis=axis, keepdims=keepdims), backward
