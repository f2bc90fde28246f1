"""Kernels of flat arrays, whose elements the threads of a rank share."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.simd import LANES
from ..kernels.team import MEMORY_BOUND, Part, each_part


def share_flat(kernel: Callable[..., None], *arrays: np.ndarray, options: tuple[Any, ...] = ()) -> None:
    """Call a kernel on `options` and flat views of dense arrays of one size, in parts that begin where vectors do."""
    flat = [array.reshape(-1) for array in arrays]

    def call(part: Part) -> None:
        elements = slice(LANES * part.slice.start, LANES * part.slice.stop)
        part.call(kernel, *options, *(array[elements] for array in flat))

    each_part(call, -(-flat[0].size // LANES), LANES * MEMORY_BOUND)
