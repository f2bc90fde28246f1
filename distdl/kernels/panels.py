"""Matrices as panels of sixteen columns, such as tiles read them: (columns / 16, rows, 16), padded with zeros."""

import numpy as np

from .registry import kernel
from .simd import LANES, store
from .tiles import get


def _pack(matrix: np.ndarray, packed: np.ndarray) -> None:
    packed[...] = 0
    for panel in range(len(packed)):
        part = matrix[:, panel * LANES : (panel + 1) * LANES]
        packed[panel, :, : part.shape[1]] = part


@kernel(reference=_pack, types=("float32",))
def pack(matrix, packed):  # type: ignore[no-untyped-def]
    """packed[p, i, lane] = matrix[i, 16 p + lane], or 0 behind the last column.

    matrix (rows, columns), packed (panels, rows, 16), both float32.
    """
    rows, columns = matrix.shape
    source, target = matrix.reshape(-1), packed.reshape(-1)
    for panel in range(packed.shape[0]):
        lanes = columns - panel * LANES
        for i in range(rows):
            at = i * columns + panel * LANES
            store(target, (panel * rows + i) * LANES, get(source, at, lanes))
