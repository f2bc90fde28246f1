"""Functions of one array, element by element."""

from typing import Any

import numpy as np

from .broadcast import sum_to
from .registry import op


@op
def exp(x: np.ndarray) -> Any:
    y = np.exp(x)
    return y, lambda dy: dy * y


@op
def log(x: np.ndarray) -> Any:
    return np.log(x), lambda dy: dy / x


@op
def sqrt(x: np.ndarray) -> Any:
    y = np.sqrt(x)
    return y, lambda dy: dy / (2 * y)


@op
def absolute(x: np.ndarray) -> Any:
    return np.abs(x), lambda dy: dy * np.sign(x)


@op
def sin(x: np.ndarray) -> Any:
    return np.sin(x), lambda dy: dy * np.cos(x)


@op
def cos(x: np.ndarray) -> Any:
    return np.cos(x), lambda dy: -dy * np.sin(x)


@op
def clip(x: np.ndarray, *, minimum: float | None = None, maximum: float | None = None) -> Any:
    """x limited to [minimum, maximum]; the gradient passes where x lies within, ends included."""

    def backward(dy: np.ndarray) -> np.ndarray:
        inside = np.ones(x.shape, bool)
        if minimum is not None:
            inside &= x >= minimum
        if maximum is not None:
            inside &= x <= maximum
        return dy * inside

    return np.clip(x, minimum, maximum), backward


@op(reads_inputs=False)
def astype(x: np.ndarray, *, dtype: Any) -> Any:
    source = x.dtype
    return x.astype(dtype), lambda dy: dy.astype(source)


@op(reads_inputs=False)
def where(a: Any, b: Any, *, condition: np.ndarray) -> Any:
    """a where `condition` holds, else b."""
    a_shape, b_shape = np.shape(a), np.shape(b)

    def backward(dy: np.ndarray, wanted: Any) -> Any:
        zero = dy.dtype.type(0)
        da = sum_to(np.where(condition, dy, zero), a_shape) if wanted[0] is not False else None
        db = sum_to(np.where(condition, zero, dy), b_shape) if wanted[1] is not False else None
        return da, db

    return np.where(condition, a, b), backward
