"""Convolution of 3x3 kernels by Winograd's algorithm."""

import numpy as np

from ..kernels import winograd
from ..kernels.scratch import scratch
from ..kernels.simd import LANES
from .conv_geometry import Geometry

_NONE = np.empty(0, np.float32)


def _whole(channels: int) -> int:
    """Return a number of channels, rounded up to whole vectors."""
    return -(-channels // LANES) * LANES


class Winograd:
    """See `kernels/winograd.py`."""

    def __init__(self, g: Geometry):
        self.g = g
        channels = _whole(max(g.inputs, g.outputs))
        self.forward_plane = winograd.plane_size(2 * winograd.BLOCK, channels)
        self.backward_plane = winograd.plane_size(2 * winograd.BLOCK, channels)

    @staticmethod
    def suits(g: Geometry) -> bool:
        return g.kernel == (3, 3) and g.stride == (1, 1) and min(g.inputs, g.outputs) >= LANES

    def forward(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, relu: bool) -> np.ndarray:
        y = np.empty((len(x), *self.g.out, self.g.outputs), np.float32)
        bias = np.zeros(self.g.outputs, np.float32) if b is None else b
        v = scratch("winograd v", (winograd.PLANES + 1, self.forward_plane), np.float32)
        winograd.winograd_forward(x, self._transform(w), bias, relu, self.g.before, v, self._lines(), y)
        return y

    def backward(
        self, x: np.ndarray, w: np.ndarray, y: np.ndarray | None, dy: np.ndarray, dx: bool, dw: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        g = self.g
        empty = _NONE.reshape(0, 0, 0, 0)
        gradient = np.empty(x.shape, np.float32) if dx else empty
        du = _NONE.reshape(0, 0, 0)
        if dw is not None:
            du = scratch("winograd du", (winograd.PLANES, g.inputs, _whole(g.outputs)), np.float32)
        # The adjoint takes the weights with inputs and outputs exchanged.
        u = self._transform(np.ascontiguousarray(w.swapaxes(2, 3))) if dx else empty
        planes = [scratch(f"winograd {name}", (winograd.PLANES, self.backward_plane), np.float32) for name in ("v", "m")]
        db = np.empty(_whole(g.outputs), np.float32)
        result = empty if y is None else y
        winograd.winograd_backward(x, dy, result, y is not None, u, g.before, *planes, self._lines(), gradient, du, db)
        if dw is not None:
            winograd.winograd_weight_gradient(du, self._lines(), dw)
        return gradient if dx else None, db[: g.outputs]

    def _lines(self) -> np.ndarray:
        return scratch("winograd lines", (winograd.PLANES * LANES,), np.float32)

    def _transform(self, w: np.ndarray) -> np.ndarray:
        inputs, outputs = w.shape[2:]
        u = scratch("winograd u", (winograd.PLANES, _whole(outputs) // LANES, inputs, LANES), np.float32)
        winograd.winograd_weights(w, self._lines(), u)
        return u
