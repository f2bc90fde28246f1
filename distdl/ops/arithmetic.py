"""Broadcasting arithmetic, element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import memory
from ..kernels.add import add_vectors
from ..kernels.registry import is_dense
from .broadcast import sum_to
from .flat import share_flat
from .registry import op


def _room(a: Any, b: Any) -> np.ndarray | None:
    """Return memory for a result of the operands' own shape and type; None where NumPy is to find out."""
    if type(a) is np.ndarray and type(b) is np.ndarray and a.shape == b.shape and a.dtype == b.dtype and a.ndim:
        return memory.empty(a.shape, a.dtype)
    return None


@op(reads_inputs=False)
def add(a: Any, b: Any) -> Any:
    # Not the arrays, whose memory would be kept until backward().
    a_shape, b_shape = np.shape(a), np.shape(b)

    def backward(dy: np.ndarray, wanted: Any) -> Any:
        da = sum_to(dy, a_shape) if wanted[0] is not False else None
        return da, sum_to(dy, b_shape) if wanted[1] is not False else None

    room = _room(a, b)
    return (np.add(a, b) if room is None else add_to(a, b, room)), backward


def add_to(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Write a + b, arrays of one shape, to `out`, which may be a; threads share large ones of float32."""
    if all(array.dtype == np.float32 and is_dense(array) for array in (a, b, out)):
        share_flat(add_vectors, a, b, out)
    else:
        np.add(a, b, out=out)
    return out


@op(reads_inputs=False)
def subtract(a: Any, b: Any) -> Any:
    a_shape, b_shape = np.shape(a), np.shape(b)

    def backward(dy: np.ndarray, wanted: Any) -> Any:
        da = sum_to(dy, a_shape) if wanted[0] is not False else None
        return da, sum_to(-dy, b_shape) if wanted[1] is not False else None

    return np.subtract(a, b, out=_room(a, b)), backward


@op
def multiply(a: Any, b: Any) -> Any:
    def backward(dy: np.ndarray, wanted: Any) -> Any:
        da = sum_to(np.multiply(dy, b, out=_room(dy, b)), a.shape) if wanted[0] is not False else None
        db = sum_to(np.multiply(dy, a, out=_room(dy, a)), b.shape) if wanted[1] is not False else None
        return da, db

    return np.multiply(a, b, out=_room(a, b)), backward


@op
def divide(a: Any, b: Any) -> Any:
    y, a_shape = a / b, np.shape(a)

    def backward(dy: np.ndarray, wanted: Any) -> Any:
        da = sum_to(dy / b, a_shape) if wanted[0] is not False else None
        db = sum_to(-dy * y / b, np.shape(b)) if wanted[1] is not False else None
        return da, db

    return y, backward


@op
def power(a: Any, b: Any) -> Any:
    """a ** b. The gradient by b is taken as 0 where a = 0 (its limit from above for b > 0)."""
    y = a**b

    def backward(dy: np.ndarray, wanted: Any) -> Any:
        da = db = None
        if wanted[0] is not False:
            # b = 0 by cases, since 0 * 0 ** -1 is NaN.
            slope = np.where(np.equal(b, 0), 0, b * np.power(a, np.where(np.equal(b, 0), 1, np.subtract(b, 1))))
            da = sum_to(dy * slope.astype(dy.dtype), a.shape)
        if wanted[1] is not False:
            log = np.log(np.where(np.equal(a, 0), 1, a)).astype(dy.dtype)
            db = sum_to(dy * y * log, b.shape)
        return da, db

    return y, backward


@op(reads_inputs=False)
def negative(a: Any) -> Any:
    return -a, lambda dy: -dy


@op
def maximum(a: Any, b: Any) -> Any:
    """The greater of a and b; where they are equal each gets half of the gradient."""
    return np.maximum(a, b), _choice(a, b, np.greater)


@op
def minimum(a: Any, b: Any) -> Any:
    """The lesser of a and b; where they are equal each gets half of the gradient."""
    return np.minimum(a, b), _choice(a, b, np.less)


def _choice(a: Any, b: Any, wins: np.ufunc) -> Any:
    """Return the gradient of picking a where `wins(a, b)`, else b."""

    def backward(dy: np.ndarray, wanted: Any) -> Any:
        share = np.where(np.equal(a, b), dy.dtype.type(0.5), wins(a, b)).astype(dy.dtype)
        da = sum_to(dy * share, a.shape) if wanted[0] is not False else None
        db = sum_to(dy * (1 - share), b.shape) if wanted[1] is not False else None
        return da, db

    return backward
