"""Convolution by register tiles: few channels, any kernel and stride."""

import numpy as np

from ..core import memory
from ..kernels.direct import direct_forward, direct_input_gradient
from ..kernels.direct_weights import direct_weight_gradient
from ..kernels.scratch import scratch
from ..kernels.simd import LANES
from ..kernels.team import each_part
from ..kernels.tiles import PANELS
from .batch import PartMoments
from .conv_ending import Ending
from .conv_geometry import Geometry
from .conv_parts import add_parts


class Direct:
    """See `kernels/direct.py`."""

    joins_norm = adds = False

    def __init__(self, g: Geometry):
        self.g = g
        self.outputs = g.outputs
        self.place = (g.before, g.stride)
        reach = [max(g.before[i] + g.images[1 + i], (g.out[i] - 1) * g.stride[i] + g.kernel[i]) for i in range(2)]
        self.padded = (*reach, g.inputs)

    @staticmethod
    def suits(g: Geometry) -> bool:
        return all(before < kernel for before, kernel in zip(g.before, g.kernel, strict=True))

    def forward(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, ending: Ending) -> np.ndarray:
        bias = np.zeros(self.outputs, np.float32) if b is None else b

        def convolve(part: slice) -> PartMoments:
            room = ending.moments_room()
            packed = scratch("conv2d weights", (-(-self.outputs // LANES), self.g.depth, LANES), np.float32)
            pair = scratch("conv2d rows", (2 * self.g.out[1], PANELS, LANES), np.float32)
            memory = packed, self._padded(), pair
            into = ending.y[part], ending.taps[part]
            direct_forward(x[part], w, bias, ending.relu, *self.place, *memory, *into, *room)
            return (part.stop - part.start) * self.g.out[0] * self.g.out[1], *room[1:]

        ending.join_moments(each_part(convolve, len(x), self.g.cost))
        return ending.y

    def backward(
        self, x: np.ndarray, w: np.ndarray, ending: Ending, dy: np.ndarray, dx: bool, dw: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        total = memory.empty(w.shape, np.float32) if dw is None else dw
        gradient = memory.empty(x.shape, np.float32) if dx else None

        def differentiate(part: slice) -> tuple[np.ndarray | None, np.ndarray]:
            own = total if part.start == 0 else memory.empty(w.shape, np.float32)
            db = np.empty(self.outputs, np.float32)
            end = dy[part], ending.y[part], ending.relu, ending.taps[part]
            direct_weight_gradient(x[part], *end, *self.place, self._padded(), self._rows(), own, db)
            if gradient is not None:
                packed = scratch("conv2d weights", (self._turned_size(w),), np.float32)
                direct_input_gradient(*end, w, *self.place, packed, self._padded_gradient(), gradient[part])
            return own, db

        return gradient, add_parts(each_part(differentiate, len(x), 2 * self.g.cost, are_summed=True))

    def _turned_size(self, w: np.ndarray) -> int:
        return int(-(-self.g.inputs // LANES) * LANES * w[:, :, 0].size)

    def _rows(self) -> np.ndarray:
        extents = self.g.out[0] * self.g.out[1], -(-self.outputs // LANES) * LANES
        return scratch("conv2d gradient", extents, np.float32)

    def _padded(self) -> np.ndarray:
        return scratch("conv2d padded", self.padded, np.float32)

    def _padded_gradient(self) -> np.ndarray:
        g = self.g
        extents = []
        for i in range(2):
            last = (g.images[1 + i] - 1 + g.before[i]) // g.stride[i]
            extents.append((g.kernel[i] - 1) // g.stride[i] + max(g.out[i], last + 1))
        return scratch("conv2d padded", (*extents, self.outputs), np.float32)
