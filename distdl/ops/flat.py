"""Kernels of flat arrays, whose elements the threads of a rank share."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.simd import LANES
from ..kernels.team import MEMORY_BOUND, each_part


def share_flat(function: Callable[..., Any], *arrays: np.ndarray) -> None:
    """Call a function on flat views of dense arrays of one size, in parts that begin where vectors do."""
    flat = [array.reshape(-1) for array in arrays]

    def call(part: slice) -> None:
        elements = slice(LANES * part.start, LANES * part.stop)
        function(*(array[elements] for array in flat))

    each_part(call, -(-flat[0].size // LANES), LANES * MEMORY_BOUND)
