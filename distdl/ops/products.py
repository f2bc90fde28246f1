"""Matrix products of a linear layer: own kernels for float32, NumPy's for other types."""

from collections.abc import Callable

import numpy as np

from ..core import memory
from ..kernels import gemm
from ..kernels.simd import LANES
from ..kernels.sums import column_sums
from ..kernels.team import Part, each_part
from ..kernels.tiles import PANELS, ROWS


def product(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, relu: bool, y: np.ndarray) -> np.ndarray:
    """Write x w + b, at least 0 if `relu`, to y; x (rows, inputs), w (inputs, outputs), b (outputs,)."""
    if x.dtype == np.float32:
        bias = np.zeros(w.shape[1], np.float32) if b is None else np.ascontiguousarray(b)

        def multiply(part: Part, columns: gemm.Range) -> None:
            part.call(gemm.linear_forward, x, w, bias, relu, columns, _panel(part, w.shape[0]), y)

        _each_part(multiply, w.shape[1], x.size)
        return y
    np.matmul(x, w, out=y)
    if b is not None:
        y += b
    return np.maximum(y, 0, out=y) if relu else y


def input_gradient(dy: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return dy w'."""
    dx = memory.empty((len(dy), w.shape[0]), dy.dtype)
    if dy.dtype == np.float32:

        def multiply(part: Part, columns: gemm.Range) -> None:
            part.call(gemm.linear_input_gradient, dy, w, columns, _panel(part, w.shape[1]), dx)

        _each_part(multiply, w.shape[0], dy.size)
        return dx
    return np.matmul(dy, w.T, out=dx)


def weight_gradient(x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> None:
    """Write x' dy to dw."""
    if dy.dtype == np.float32 and dw.flags.c_contiguous:
        extents = -(-dw.shape[1] // LANES), gemm.DEPTH + 1, LANES

        def multiply(part: Part, rows: gemm.Range) -> None:
            panels = part.scratch("linear gradients", extents, np.float32)
            strip = part.scratch("linear strip", (gemm.DEPTH * ROWS + LANES,), np.float32)
            part.call(gemm.linear_weight_gradient, x, dy, rows, panels, strip, dw)

        _each_part(multiply, dw.shape[0], dy.size)
    else:
        np.matmul(x.T, dy, out=dw)


def relu_gradient(dy: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return dy where y > 0 and else 0, and the sum of its rows."""
    if dy.dtype != np.float32:
        masked = np.where(y > 0, dy, dy.dtype.type(0))
        return masked, column_sums(masked)
    masked, total = memory.empty(dy.shape, np.float32), np.empty(dy.shape[1], np.float32)
    gemm.relu_gradient(dy, y, masked, total)
    return masked, total


def _panel(part: Part, depth: int) -> np.ndarray:
    return part.scratch("linear weights", (PANELS, -(-depth // LANES) * LANES, LANES), np.float32)


def _each_part(multiply: Callable[[Part, gemm.Range], None], count: int, cost: int) -> None:
    """Let threads share `count` columns or rows, by whole vectors; each costs `cost` multiplications."""
    each_part(
        lambda part: multiply(part, (part.slice.start * LANES, min(part.slice.stop * LANES, count))),
        -(-count // LANES),
        cost * LANES,
    )
