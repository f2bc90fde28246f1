"""A pool of memory for large arrays: fresh pages from the system cost more than most operations that fill them.

Memory goes back to the pool when the last array that looks at it is gone, and the next array of about
its size gets it. In a steady training step nothing large is allocated; `statistics()` shows it.
"""

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

# Vectors load fastest from multiples of a cache line.
ALIGNMENT = 64

# Smaller arrays are as fast from NumPy.
LEAST_BYTES = 1 << 14


@dataclass(frozen=True)
class Statistics:
    """What the pool has done.

    Attributes:
        allocations: blocks that were taken from the system.
        allocated_bytes: their size.
        held_bytes: what of it the pool still has, in use or idle.
        idle_bytes: what of it nobody uses.
    """

    allocations: int
    allocated_bytes: int
    held_bytes: int
    idle_bytes: int


_idle: dict[int, list[np.ndarray]] = {}


class _Memory(np.ndarray):
    """Bytes from the system; of a type of its own, so that NumPy does not look behind a block for its memory."""


class _Block(np.ndarray):
    """The memory of one array that was handed out; it goes last, and then its bytes go back.

    NumPy makes a view refer to what the viewed array refers to only as far as types are the same. So the
    array refers to its block, and views of the array refer to the array.
    """

    __slots__ = ("memory",)

    memory: np.ndarray

    # At the end of the interpreter, names of modules go before arrays do.
    def __del__(self, idle: dict[int, list[np.ndarray]] = _idle) -> None:
        memory = getattr(self, "memory", None)
        if memory is not None:
            # Appending needs no lock, which a collection of garbage within the pool's own lock would wait for.
            idle[memory.size].append(memory)


_lock = threading.Lock()
_allocations = _allocated_bytes = _released_bytes = 0


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an uninitialised array, C-contiguous and, if it is large, at a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < LEAST_BYTES:
        return np.empty(shape, dtype)
    # Eight steps to the next power of two: at most an eighth is wasted.
    step = 1 << (size.bit_length() - 4)
    size = -(-size // step) * step
    try:
        # The last one that came back is likeliest to be in the cache.
        memory = _idle[size].pop()
    except (KeyError, IndexError):
        memory = _allocate(size)
    block = _Block(shape, dtype, memory)
    block.memory = memory
    return block.view(np.ndarray)


def zeros(size: int, dtype: Any) -> np.ndarray:
    """Return a flat array of zeros, not from the pool, that begins at a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    raw = np.zeros(size * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size * dtype.itemsize].view(dtype)


def is_view(array: np.ndarray) -> bool:
    """Say whether an array looks at the memory of another."""
    return array.base is not None and type(array.base) is not _Block


def statistics() -> Statistics:
    """Return the counters of this process."""
    idle = sum(size * len(blocks) for size, blocks in list(_idle.items()))
    return Statistics(_allocations, _allocated_bytes, _allocated_bytes - _released_bytes, idle)


def release() -> None:
    """Give memory that nobody uses back to the system."""
    global _released_bytes
    with _lock:
        for size, blocks in list(_idle.items()):
            while blocks:
                blocks.pop()
                _released_bytes += size


def _allocate(size: int) -> np.ndarray:
    global _allocations, _allocated_bytes
    with _lock:
        _idle.setdefault(size, [])
        _allocations += 1
        _allocated_bytes += size
    raw = np.empty(size + ALIGNMENT, np.uint8).view(_Memory)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]
