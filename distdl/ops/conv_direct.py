"""Convolution by register tiles: few channels, any kernel and stride."""

import numpy as np

from ..core import memory
from ..kernels.direct import direct_forward, direct_input_gradient
from ..kernels.direct_weights import direct_weight_gradient
from ..kernels.simd import LANES
from ..kernels.team import Part, each_part
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

        def convolve(part: Part) -> PartMoments:
            room, images = ending.moments_room(), x[part.slice]
            packed = part.scratch("conv2d weights", (-(-self.outputs // LANES), self.g.depth, LANES), np.float32)
            pair = part.scratch("conv2d rows", (2 * self.g.out[1], PANELS, LANES), np.float32)
            memory = packed, self._padded(part), pair
            into = ending.y[part.slice], ending.taps[part.slice]
            part.call(direct_forward, images, w, bias, ending.relu, *self.place, *memory, *into, *room)
            return len(images) * self.g.out[0] * self.g.out[1], *room[1:]

        ending.join_moments(each_part(convolve, len(x), self.g.cost))
        return ending.y

    def backward(
        self, x: np.ndarray, w: np.ndarray, ending: Ending, dy: np.ndarray, dx: bool, dw: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        total = memory.empty(w.shape, np.float32) if dw is None else dw
        gradient = memory.empty(x.shape, np.float32) if dx else None

        def differentiate(part: Part) -> tuple[np.ndarray | None, np.ndarray]:
            mine = part.slice
            own = total if mine.start == 0 else memory.empty(w.shape, np.float32)
            db = np.empty(self.outputs, np.float32)
            end = dy[mine], ending.y[mine], ending.relu, ending.taps[mine]
            room = self._padded(part), self._rows(part)
            part.call(direct_weight_gradient, x[mine], *end, *self.place, *room, own, db)
            if gradient is not None:
                packed = part.scratch("conv2d weights", (self._turned_size(w),), np.float32)
                room = packed, self._padded_gradient(part)
                part.call(direct_input_gradient, *end, w, *self.place, *room, gradient[mine])
            return own, db

        return gradient, add_parts(each_part(differentiate, len(x), 2 * self.g.cost, are_summed=True))

    def _turned_size(self, w: np.ndarray) -> int:
        return int(-(-self.g.inputs // LANES) * LANES * w[:, :, 0].size)

    def _rows(self, part: Part) -> np.ndarray:
        extents = self.g.out[0] * self.g.out[1], -(-self.outputs // LANES) * LANES
        return part.scratch("conv2d gradient", extents, np.float32)

    def _padded(self, part: Part) -> np.ndarray:
        return part.scratch("conv2d padded", self.padded, np.float32)

    def _padded_gradient(self, part: Part) -> np.ndarray:
        g = self.g
        extents = []
        for i in range(2):
            last = (g.images[1 + i] - 1 + g.before[i]) // g.stride[i]
            extents.append((g.kernel[i] - 1) // g.stride[i] + max(g.out[i], last + 1))
        return part.scratch("conv2d padded", (*extents, self.outputs), np.float32)
