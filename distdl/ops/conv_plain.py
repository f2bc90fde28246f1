"""Convolutions of any kind and type: with NumPy's matrix products, or a pass over the taps."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..kernels import depthwise, windows
from ..kernels.conv import fold, unfold
from ..kernels.scratch import scratch
from ..kernels.sums import column_sums
from ..kernels.taps import Pair
from .conv_ending import Ending
from .conv_geometry import Geometry

# Unfolded patches of one block stay in the second-level cache.
_BLOCK_BYTES = 1 << 20


class Plain:
    """Bias and ReLU around an algorithm that knows of neither."""

    joins_norm = adds = False

    def __init__(self, g: Geometry):
        self.g = g

    def forward(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, ending: Ending) -> np.ndarray:
        y = self._convolve(x, w)
        if b is not None:
            y += b
        windows.finish(
            y[:, : 2 * (y.shape[1] // 2), : 2 * (y.shape[2] // 2)] if ending.pool else y,
            ending.relu,
            ending.y,
            ending.taps,
        )
        return ending.y

    def backward(
        self, x: np.ndarray, w: np.ndarray, ending: Ending, dy: np.ndarray, dx: bool, dw: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        whole = windows.begin(dy, ending.y, ending.relu, ending.taps)
        if ending.pool:
            missing = [(0, self.g.out[i] - whole.shape[1 + i]) for i in range(2)]
            whole = np.pad(whole, ((0, 0), *missing, (0, 0)))
        if dw is not None:
            self._weight_gradient(x, whole, dw)
        return self._input_gradient(whole, w) if dx else None, column_sums(whole)

    def _convolve(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _input_gradient(self, dy: np.ndarray, w: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _weight_gradient(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> None:
        raise NotImplementedError


class Depthwise(Plain):
    """Every input channel makes outputs of its own: no matrix products, a pass over the taps."""

    def __init__(self, g: Geometry):
        super().__init__(g)
        self.place = (g.before, g.stride, g.dilation)

    def _convolve(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = np.empty((self.g.images[0], *self.g.out, w.shape[3]), x.dtype)
        depthwise.depthwise_forward(self._repeat(x), w[:, :, 0], *self.place, y)
        return y

    def _input_gradient(self, dy: np.ndarray, w: np.ndarray) -> np.ndarray:
        dx = np.empty((*self.g.images[:3], w.shape[3]), dy.dtype)
        depthwise.depthwise_input_gradient(dy, w[:, :, 0], *self.place, dx)
        return dx if self.g.outputs == 1 else dx.reshape(*self.g.images, self.g.outputs).sum(axis=-1)

    def _weight_gradient(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> None:
        depthwise.depthwise_weight_gradient(self._repeat(x), dy, *self.place, dw[:, :, 0])

    def _repeat(self, x: np.ndarray) -> np.ndarray:
        """Give every output channel an input channel."""
        return x if self.g.outputs == 1 else np.repeat(x, self.g.outputs, axis=3)


class Unfolding(Plain):
    """Patches are unfolded into the rows of a matrix, which meets the weights in one product (im2col).

    K. Chellapilla, S. Puri, P. Simard, "High performance convolutional neural networks for document
    processing", 2006; here in blocks: of images, or of the rows of an image that is too large. The
    product is taken image by image: bits of BLAS depend on the number of rows, and what becomes of an
    image must not depend on the others in its batch.
    """

    def _convolve(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        g = self.g
        y = np.empty((g.images[0], *g.out, g.groups * g.outputs), x.dtype)
        for block, columns, before in self._blocks(x.dtype):
            out = y[block].reshape(len(columns), -1, g.groups, g.outputs)
            for group, matrix in enumerate(self._matrices(w)):
                unfold(x[block[0]], group * g.inputs, before, g.stride, g.dilation, columns)
                np.matmul(columns.reshape(len(columns), -1, g.depth), matrix, out=out[:, :, group])
        return y

    def _input_gradient(self, dy: np.ndarray, w: np.ndarray) -> np.ndarray:
        g = self.g
        dx = np.zeros(g.images, dy.dtype)
        for block, columns, before in self._blocks(dy.dtype):
            rows = dy[block].reshape(len(columns), -1, g.groups, g.outputs)
            for group, matrix in enumerate(self._matrices(w)):
                np.matmul(rows[:, :, group], matrix.T, out=columns.reshape(len(columns), -1, g.depth))
                fold(columns, group * g.inputs, before, g.stride, g.dilation, dx[block[0]])
        return dx

    def _weight_gradient(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> None:
        g = self.g
        dw.fill(0)
        part = scratch("conv2d weights", (g.depth, g.outputs), x.dtype)
        for block, columns, before in self._blocks(x.dtype):
            rows = dy[block].reshape(-1, g.groups, g.outputs)
            for group, matrix in enumerate(self._matrices(dw)):
                unfold(x[block[0]], group * g.inputs, before, g.stride, g.dilation, columns)
                np.matmul(columns.reshape(-1, g.depth).T, rows[:, group], out=part)
                matrix += part

    def _matrices(self, w: np.ndarray) -> np.ndarray:
        """Return a view of the weights, a matrix for each group: (groups, kh * kw * inputs, outputs)."""
        return w.reshape(self.g.depth, self.g.groups, self.g.outputs).swapaxes(0, 1)

    def _blocks(self, dtype: Any) -> Iterator[tuple[Any, np.ndarray, Pair]]:
        """Yield for each block its index into the results, memory for its patches, and where it starts."""
        g = self.g
        row_bytes = g.out[1] * g.depth * np.dtype(dtype).itemsize
        images = max(1, _BLOCK_BYTES // (row_bytes * g.out[0]))
        rows = max(1, min(g.out[0], _BLOCK_BYTES // row_bytes))
        for image in range(0, g.images[0], images):
            for row in range(0, g.out[0], rows):
                block = slice(image, min(image + images, g.images[0])), slice(row, min(row + rows, g.out[0]))
                extents = (block[0].stop - image, block[1].stop - row, g.out[1], *g.kernel, g.inputs)
                before = (g.before[0] - row * g.stride[0], g.before[1])
                yield block, scratch("conv2d patches", extents, dtype), before
