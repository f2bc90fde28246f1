"""Convolution by register tiles: few channels, any kernel and stride."""

import numpy as np

from ..kernels.direct import direct_forward, direct_input_gradient, direct_weight_gradient
from ..kernels.scratch import scratch
from ..kernels.simd import LANES
from .conv_geometry import Geometry


class Direct:
    """See `kernels/direct.py`."""

    def __init__(self, g: Geometry):
        self.g = g
        self.outputs = g.outputs
        self.place = (g.before, g.stride)
        reach = [max(g.before[i] + g.images[1 + i], (g.out[i] - 1) * g.stride[i] + g.kernel[i]) for i in range(2)]
        self.padded = (*reach, g.inputs)

    @staticmethod
    def suits(g: Geometry) -> bool:
        return all(before < kernel for before, kernel in zip(g.before, g.kernel, strict=True))

    def forward(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, relu: bool) -> np.ndarray:
        y = np.empty((len(x), *self.g.out, self.outputs), np.float32)
        bias = np.zeros(self.outputs, np.float32) if b is None else b
        packed = scratch("conv2d weights", (-(-self.outputs // LANES), self.g.depth, LANES), np.float32)
        direct_forward(x, w, bias, relu, *self.place, packed, self._padded(), y)
        return y

    def backward(
        self, x: np.ndarray, w: np.ndarray, y: np.ndarray | None, dy: np.ndarray, dx: bool, dw: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        masked, result = y is not None, dy if y is None else y
        db = np.empty(self.outputs, np.float32)
        if dw is None:
            dw = np.empty(w.shape, np.float32)
        rows = scratch(
            "conv2d gradient", (self.g.out[0] * self.g.out[1], -(-self.outputs // LANES) * LANES), np.float32
        )
        direct_weight_gradient(x, dy, result, masked, *self.place, self._padded(), rows, dw, db)
        if not dx:
            return None, db
        gradient = np.empty(x.shape, np.float32)
        packed = scratch(
            "conv2d weights", (-(-self.g.inputs // LANES) * w.shape[0] * w.shape[1] * w.shape[3] * LANES,), np.float32
        )
        direct_input_gradient(dy, result, masked, w, *self.place, packed, self._padded_gradient(), gradient)
        return gradient, db

    def _padded(self) -> np.ndarray:
        return scratch("conv2d padded", self.padded, np.float32)

    def _padded_gradient(self) -> np.ndarray:
        g = self.g
        extents = []
        for i in range(2):
            last = (g.images[1 + i] - 1 + g.before[i]) // g.stride[i]
            extents.append((g.kernel[i] - 1) // g.stride[i] + max(g.out[i], last + 1))
        return scratch("conv2d padded", (*extents, self.outputs), np.float32)
