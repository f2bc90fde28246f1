"""Convolution in groups: each group of channels is a convolution of its own."""

from typing import Any

import numpy as np

from ..core import memory
from .conv_ending import Ending
from .conv_geometry import Geometry


class Groups:
    """Cuts channels into groups, convolves each, and joins the results."""

    joins_norm = adds = False

    def __init__(self, g: Geometry, algorithm: Any):
        self.g = g
        self.algorithm = algorithm

    def forward(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, ending: Ending) -> np.ndarray:
        for i in range(self.g.groups):
            bias = None if b is None else self._outputs(b, i)
            own = self._ending(ending, i)
            self.algorithm.forward(self._inputs(x, i), self._outputs(w, i), bias, own)
            self._part(ending.y, i, self.g.outputs)[...] = own.y
            if ending.pool:
                self._part(ending.taps, i, self.g.outputs)[...] = own.taps
        return ending.y

    def backward(
        self, x: np.ndarray, w: np.ndarray, ending: Ending, dy: np.ndarray, dx: bool, dw: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        g = self.g
        gradient = memory.empty(x.shape, x.dtype) if dx else None
        db = np.empty(w.shape[3], x.dtype)
        part = None if dw is None else memory.empty((*w.shape[:3], g.outputs), x.dtype)
        for i in range(g.groups):
            found, bias = self.algorithm.backward(
                self._inputs(x, i), self._outputs(w, i), self._ending(ending, i), self._outputs(dy, i), dx, part
            )
            self._part(db, i, g.outputs)[...] = bias
            if dw is not None:
                self._part(dw, i, g.outputs)[...] = part
            if gradient is not None:
                self._part(gradient, i, g.inputs)[...] = found
        return gradient, db

    def _ending(self, ending: Ending, i: int) -> Ending:
        taps = self._outputs(ending.taps, i) if ending.pool else ending.taps
        return ending.part(self._outputs(ending.y, i), taps)

    @staticmethod
    def _part(array: np.ndarray, i: int, channels: int) -> np.ndarray:
        return array[..., i * channels : (i + 1) * channels]

    def _inputs(self, array: np.ndarray, i: int) -> np.ndarray:
        return np.ascontiguousarray(self._part(array, i, self.g.inputs))

    def _outputs(self, array: np.ndarray, i: int) -> np.ndarray:
        return np.ascontiguousarray(self._part(array, i, self.g.outputs))
