"""Moving values about: reshape, transpose, index, join."""

from typing import Any

import numpy as np

from .broadcast import sum_to
from .registry import op


@op(reads_inputs=False)
def reshape(x: np.ndarray, *, shape: tuple[int, ...]) -> Any:
    source = x.shape
    return x.reshape(shape), lambda dy: dy.reshape(source)


@op(reads_inputs=False)
def transpose(x: np.ndarray, *, axes: tuple[int, ...] | None = None) -> Any:
    inverse = None if axes is None else np.argsort([axis % x.ndim for axis in axes])
    return x.transpose(axes), lambda dy: dy.transpose(inverse)


@op(reads_inputs=False)
def broadcast_to(x: np.ndarray, *, shape: tuple[int, ...]) -> Any:
    source = x.shape
    return np.broadcast_to(x, shape), lambda dy: sum_to(dy, source)


@op(reads_inputs=False)
def getitem(x: np.ndarray, *, index: Any) -> Any:
    """x[index]; values picked several times get the sum of their gradients."""
    shape, basic = x.shape, _is_basic(index)

    def backward(dy: np.ndarray) -> np.ndarray:
        dx = np.zeros(shape, dy.dtype)
        if basic:
            dx[index] = dy
        else:
            np.add.at(dx, index, dy)
        return dx

    return x[index], backward


def _is_basic(index: Any) -> bool:
    """Say whether an index picks no value twice: integers, slices, Ellipsis, None, and masks."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None
        or part is Ellipsis
        or isinstance(part, (int, np.integer, slice))
        or (isinstance(part, np.ndarray) and part.dtype == bool)
        for part in parts
    )


@op(reads_inputs=False)
def concatenate(*arrays: np.ndarray, axis: int = 0) -> Any:
    ends = np.cumsum([array.shape[axis] for array in arrays])[:-1]
    return np.concatenate(arrays, axis), lambda dy: tuple(np.split(dy, ends, axis))


@op(reads_inputs=False)
def stack(*arrays: np.ndarray, axis: int = 0) -> Any:
    return np.stack(arrays, axis), lambda dy: tuple(np.moveaxis(dy, axis, 0))


@op(reads_inputs=False)
def pad(x: np.ndarray, *, widths: tuple[tuple[int, int], ...], value: float = 0.0) -> Any:
    """x with `widths[i]` = (before, after) values added along axis i."""
    inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True))
    return np.pad(x, widths, constant_values=value), lambda dy: dy[inside]
