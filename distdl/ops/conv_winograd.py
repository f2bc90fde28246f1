"""Convolution of 3x3 kernels by Winograd's algorithm."""

from typing import Any

import numpy as np

from ..core import memory
from ..kernels import winograd
from ..kernels.scratch import scratch
from ..kernels.simd import LANES
from ..kernels.team import Part, each_part
from ..kernels.winograd_backward import winograd_backward
from ..kernels.winograd_forward import winograd_forward
from ..kernels.winograd_weights import winograd_weight_gradient, winograd_weights
from .batch import PartMoments
from .conv_ending import Ending
from .conv_geometry import Geometry
from .conv_parts import add_parts

_NONE = np.empty(0, np.float32)

# What the transform of a weight costs, as much as so many multiplications: its 36 values go to memory.
_TRANSFORM = 128


def _whole(channels: int) -> int:
    """Return a number of channels, rounded up to whole vectors."""
    return -(-channels // LANES) * LANES


class Winograd:
    """See `kernels/winograd.py`."""

    joins_norm = adds = True

    def __init__(self, g: Geometry):
        self.g = g

    @staticmethod
    def suits(g: Geometry) -> bool:
        return g.kernel == (3, 3) and g.stride == (1, 1) and min(g.inputs, g.outputs) >= LANES // 2

    def forward(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, ending: Ending) -> np.ndarray:
        bias = np.zeros(self.g.outputs, np.float32) if b is None else b
        u = self._transform(w)

        def convolve(part: Part) -> PartMoments:
            room, images = ending.moments_room(), x[part.slice]
            v = part.scratch("winograd v", (winograd.PLANES + 1, self._plane(48)), np.float32)
            into = ending.y[part.slice], ending.taps[part.slice]
            part.call(winograd_forward, images, u, bias, ending.relu, self.g.before, v, _lines(part), *into, *room)
            return len(images) * self.g.out[0] * self.g.out[1], *room[1:]

        ending.join_moments(each_part(convolve, len(x), self.g.cost))
        return ending.y

    def backward(
        self, x: np.ndarray, w: np.ndarray, ending: Ending, dy: np.ndarray, dx: Any, dw: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        g = self.g
        empty, no_weights = _NONE.reshape(0, 0, 0, 0), _NONE.reshape(0, 0)
        adds = isinstance(dx, np.ndarray)
        gradient = dx if adds else memory.empty(x.shape, np.float32) if dx else empty
        # The adjoint takes the weights with inputs and outputs exchanged.
        u = self._transform(w, exchanged=True) if dx is not False else no_weights

        def differentiate(part: Part) -> tuple[np.ndarray | None, np.ndarray]:
            mine = part.slice
            du = no_weights
            if dw is not None:
                size = winograd.plane_size(g.inputs, _whole(g.outputs))
                du = part.scratch("winograd du", (winograd.PLANES, size), np.float32)
            plane = self._plane(self._block())
            image = g.out[0] * g.out[1] * g.outputs if ending.norm.size else 0
            planes = [part.scratch(f"winograd {name}", (winograd.PLANES, plane), np.float32) for name in ("v", "m")]
            db = np.empty(_whole(g.outputs), np.float32)
            part.call(
                winograd_backward,
                x[mine],
                dy[mine],
                ending.y[mine],
                ending.relu,
                ending.norm,
                ending.taps[mine],
                u,
                g.before,
                *planes,
                _lines(part),
                part.scratch("winograd image", (image,), np.float32),
                adds,
                gradient[mine] if dx is not False else empty,
                du,
                db,
            )
            if dw is None:
                return None, db
            own = dw if mine.start == 0 else memory.empty(dw.shape, np.float32)
            part.call(winograd_weight_gradient, du, _lines(part), own)
            return own, db

        db = add_parts(each_part(differentiate, len(x), 2 * self.g.cost, are_summed=True))
        return gradient if dx is not False else None, db[: g.outputs]

    def _block(self) -> int:
        """Return the tiles of a block of the backward pass: two sets of planes are to stay in the cache.

        As in the forward pass a multiple of the rows of register tiles, 6 or 12.
        """
        if self.g.inputs * self.g.outputs > 1 << 14:
            # The gradients of the weights do not stay there: they are added to less often.
            return 144
        channels = max(self.g.inputs, self.g.outputs)
        return 36 if channels > 64 else 48 if channels > LANES else 96

    def _plane(self, tiles: int) -> int:
        return winograd.plane_size(tiles, _whole(max(self.g.inputs, self.g.outputs)))

    def _transform(self, w: np.ndarray, exchanged: bool = False) -> np.ndarray:
        inputs, outputs = w.shape[2:]
        if exchanged:
            inputs, outputs = outputs, inputs
        u = scratch("winograd u", (winograd.PLANES, winograd.plane_size(inputs, _whole(outputs))), np.float32)

        def transform(part: Part) -> None:
            block = part.scratch("winograd block", (9 * LANES * LANES,), np.float32)
            panels = part.slice.start, part.slice.stop
            part.call(winograd_weights, w, exchanged, panels, _lines(part), block, u)

        each_part(transform, _whole(outputs) // LANES, _TRANSFORM * inputs * LANES)
        return u


def _lines(part: Part) -> np.ndarray:
    return part.scratch("winograd lines", (winograd.SPAN * winograd.PLANES * LANES,), np.float32)
