"""Convolution in groups: each group of channels is a convolution of its own."""

from typing import Any

import numpy as np

from .conv_geometry import Geometry


class Groups:
    """Cuts channels into groups, convolves each, and joins the results."""

    def __init__(self, g: Geometry, algorithm: Any):
        self.g = g
        self.algorithm = algorithm

    def forward(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, relu: bool) -> np.ndarray:
        g = self.g
        y = np.empty((len(x), *g.out, g.groups * g.outputs), x.dtype)
        for i in range(g.groups):
            bias = None if b is None else self._outputs(b, i)
            self._part(y, i, g.outputs)[...] = self.algorithm.forward(
                self._inputs(x, i), self._outputs(w, i), bias, relu
            )
        return y

    def backward(
        self, x: np.ndarray, w: np.ndarray, y: np.ndarray | None, dy: np.ndarray, dx: bool, dw: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        g = self.g
        gradient = np.empty(x.shape, x.dtype) if dx else None
        db = np.empty(w.shape[3], x.dtype)
        part = None if dw is None else np.empty((*w.shape[:3], g.outputs), x.dtype)
        for i in range(g.groups):
            result = None if y is None else self._outputs(y, i)
            found, bias = self.algorithm.backward(
                self._inputs(x, i), self._outputs(w, i), result, self._outputs(dy, i), dx, part
            )
            self._part(db, i, g.outputs)[...] = bias
            if dw is not None:
                self._part(dw, i, g.outputs)[...] = part
            if gradient is not None:
                self._part(gradient, i, g.inputs)[...] = found
        return gradient, db

    @staticmethod
    def _part(array: np.ndarray, i: int, channels: int) -> np.ndarray:
        return array[..., i * channels : (i + 1) * channels]

    def _inputs(self, array: np.ndarray, i: int) -> np.ndarray:
        return np.ascontiguousarray(self._part(array, i, self.g.inputs))

    def _outputs(self, array: np.ndarray, i: int) -> np.ndarray:
        return np.ascontiguousarray(self._part(array, i, self.g.outputs))
