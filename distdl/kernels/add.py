"""The sum of two arrays, element by element; NumPy has it for other types."""

import numpy as np

from .registry import kernel
from .simd import LANES, add, load
from .streaming import finish_writing, is_streamed, write


def _add_vectors(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> None:
    np.add(a, b, out=y)


@kernel(reference=_add_vectors, types=("float32",))
def add_vectors(a, b, y):  # type: ignore[no-untyped-def]
    """y = a + b, where y may be a; flat arrays."""
    whole = y.size - y.size % LANES
    # In place, the cache holds already what is to be written.
    streamed = is_streamed(y) and y.ctypes.data != a.ctypes.data
    for i in range(0, whole, LANES):
        write(y, i, add(load(a, i), load(b, i)), LANES, streamed)
    for i in range(whole, y.size):
        y[i] = a[i] + b[i]
    finish_writing(streamed)
