"""Working memory that is kept from call to call: fresh pages cost more than what is computed in them."""

import math
import threading
from typing import Any

import numpy as np

# Images of ever new sizes must not fill the memory with arrays that look at it.
_MOST_ARRAYS = 1024


class _Local(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[tuple[str, int, Any], np.ndarray] = {}
        self.arrays: dict[tuple[str, int, tuple[int, ...], Any], np.ndarray] = {}


_local = _Local()


def scratch(name: str, shape: tuple[int, ...], dtype: Any, part: int = 0) -> np.ndarray:
    """Return an uninitialised array of this thread's, valid until it asks for `name` again, for the same part.

    It starts at a multiple of 64 bytes, where vectors load fastest.
    """
    array = _local.arrays.get((name, part, shape, dtype))
    if array is None:
        array = _local.arrays[name, part, shape, dtype] = _look(name, part, shape, np.dtype(dtype))
    return array


def forget() -> None:
    """Let go of this thread's arrays: somebody may still write to them."""
    _local.buffers, _local.arrays = {}, {}


def _look(name: str, part: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array that looks at the buffer of this name, which grows when it must."""
    size = math.prod(shape)
    buffer = _local.buffers.get((name, part, dtype))
    if len(_local.arrays) >= _MOST_ARRAYS:
        _local.arrays.clear()
    if buffer is None or buffer.size < size:
        # Arrays that look at the smaller one would keep it.
        _local.arrays = {key: array for key, array in _local.arrays.items() if key[:2] != (name, part)}
        spare = 64 // dtype.itemsize
        raw = np.empty(size + spare, dtype)
        start = -raw.ctypes.data % 64 // dtype.itemsize
        buffer = _local.buffers[name, part, dtype] = raw[start : start + size]
    return buffer[:size].reshape(shape)
