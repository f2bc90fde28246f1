"""Working memory that is kept from call to call: fresh pages cost more than what is computed in them."""

import math
import threading
from typing import Any

import numpy as np


class _Local(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[tuple[str, Any], np.ndarray] = {}


_local = _Local()


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an uninitialised array of this thread's, valid until it asks for `name` again.

    It starts at a multiple of 64 bytes, where vectors load fastest.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape)
    buffer = _local.buffers.get((name, dtype))
    if buffer is None or buffer.size < size:
        spare = 64 // dtype.itemsize
        raw = np.empty(size + spare, dtype)
        start = -raw.ctypes.data % 64 // dtype.itemsize
        buffer = _local.buffers[name, dtype] = raw[start : start + size]
    return buffer[:size].reshape(shape)
