"""Convolution by kernels of one pixel: a matrix product over channels."""

import numpy as np

from ..core import memory
from ..kernels.sums import column_sums
from . import products
from .conv_ending import Ending
from .conv_geometry import Geometry


class Pointwise:
    """Takes the pixels that the stride meets as rows of a matrix."""

    joins_norm = adds = False

    def __init__(self, g: Geometry):
        self.g = g

    @staticmethod
    def suits(g: Geometry) -> bool:
        return g.kernel == (1, 1) and not g.is_padded

    def forward(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, ending: Ending) -> np.ndarray:
        products.product(self._rows(x), w[0, 0], b, ending.relu, ending.y.reshape(-1, self.g.outputs))
        return ending.y

    def backward(
        self, x: np.ndarray, w: np.ndarray, ending: Ending, dy: np.ndarray, dx: bool, dw: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        rows = dy.reshape(-1, self.g.outputs)
        if ending.relu:
            rows, db = products.relu_gradient(rows, ending.y.reshape(rows.shape))
        else:
            db = column_sums(rows)
        if dw is not None:
            products.weight_gradient(self._rows(x), rows, dw[0, 0])
        return self._spread(products.input_gradient(rows, w[0, 0]), x) if dx else None, db

    def _rows(self, x: np.ndarray) -> np.ndarray:
        """Return the pixels that the stride meets: (pixels, inputs)."""
        met = x[:, :: self.g.stride[0], :: self.g.stride[1]]
        return np.ascontiguousarray(met).reshape(-1, self.g.inputs)

    def _spread(self, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the gradients of pixels in their places, and 0 where no stride meets."""
        if self.g.stride == (1, 1):
            return rows.reshape(x.shape)
        dx = memory.empty(x.shape, x.dtype)
        dx.fill(0)
        dx[:, :: self.g.stride[0], :: self.g.stride[1]] = rows.reshape(len(x), *self.g.out, self.g.inputs)
        return dx
