"""The ways to convolve. Which one is taken depends on the shape of one image and of the weights, never on the batch."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from ..core.errors import ArgumentError
from ..kernels import depthwise
from ..kernels.conv import fold, unfold
from ..kernels.scratch import scratch
from ..kernels.taps import Pair
from .checking import IMAGES

Padding = tuple[Pair, Pair]

# Unfolded patches of one block stay in the second-level cache.
_BLOCK_BYTES = 1 << 20


class Geometry:
    """The extents of one convolution."""

    def __init__(self, x: np.ndarray, w: np.ndarray, stride: Pair, padding: Padding, dilation: Pair, groups: int):
        self.images = x.shape
        self.kernel = w.shape[:2]
        self.groups = groups
        self.inputs, self.outputs = w.shape[2], w.shape[3] // groups
        self.stride, self.dilation = stride, dilation
        self.before = (padding[0][0], padding[1][0])
        self.is_padded = padding != ((0, 0), (0, 0))
        self.out = tuple(self._extent(x, axis, sum(padding[axis])) for axis in range(2))
        self.depth = self.kernel[0] * self.kernel[1] * self.inputs

    def _extent(self, x: np.ndarray, axis: int, padding: int) -> int:
        room = x.shape[1 + axis] + padding
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        if room < reach:
            name = ("height", "width")[axis]
            raise ArgumentError(
                f"`x` (shape {x.shape}) must have a padded {name} (={room}) >= {reach}, what the kernel spans: {IMAGES}"
            )
        return int((room - reach) // self.stride[axis] + 1)


class Algorithm(Protocol):
    """The three passes of a convolution; x, w, dy are dense, dw is an array to be written to."""

    def forward(self, x: np.ndarray, w: np.ndarray) -> np.ndarray: ...

    def input_gradient(self, dy: np.ndarray, w: np.ndarray) -> np.ndarray: ...

    def weight_gradient(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> None: ...


def choose(g: Geometry) -> Algorithm:
    """Return the algorithm for a convolution."""
    if g.groups == 1 and g.kernel == g.stride == (1, 1) and not g.is_padded:
        return Product(g)
    if g.groups > 1 and g.inputs == 1:
        return Depthwise(g)
    return Unfolding(g)


class Product:
    """A kernel of one pixel is a matrix product over channels, image by image (see `Unfolding`)."""

    def __init__(self, g: Geometry):
        self.g = g

    def forward(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return self._each_image(x, w[0, 0])

    def input_gradient(self, dy: np.ndarray, w: np.ndarray) -> np.ndarray:
        return self._each_image(dy, w[0, 0].T)

    def weight_gradient(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> None:
        np.matmul(x.reshape(-1, self.g.inputs).T, dy.reshape(-1, self.g.outputs), out=dw[0, 0])

    def _each_image(self, images: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        pixels = images.reshape(len(images), self.g.out[0] * self.g.out[1], len(matrix))
        product: np.ndarray = np.matmul(pixels, matrix)
        return product.reshape(*images.shape[:3], matrix.shape[1])


class Depthwise:
    """Every input channel makes outputs of its own: no matrix products, a pass over the taps."""

    def __init__(self, g: Geometry):
        self.g = g
        self.place = (g.before, g.stride, g.dilation)

    def forward(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = np.empty((self.g.images[0], *self.g.out, w.shape[3]), x.dtype)
        depthwise.depthwise_forward(self._repeat(x), w[:, :, 0], *self.place, y)
        return y

    def input_gradient(self, dy: np.ndarray, w: np.ndarray) -> np.ndarray:
        dx = np.empty((*self.g.images[:3], w.shape[3]), dy.dtype)
        depthwise.depthwise_input_gradient(dy, w[:, :, 0], *self.place, dx)
        return dx if self.g.outputs == 1 else dx.reshape(*self.g.images, self.g.outputs).sum(axis=-1)

    def weight_gradient(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> None:
        depthwise.depthwise_weight_gradient(self._repeat(x), dy, *self.place, dw[:, :, 0])

    def _repeat(self, x: np.ndarray) -> np.ndarray:
        """Give every output channel an input channel."""
        return x if self.g.outputs == 1 else np.repeat(x, self.g.outputs, axis=3)


class Unfolding:
    """Patches are unfolded into the rows of a matrix, which meets the weights in one product (im2col).

    K. Chellapilla, S. Puri, P. Simard, "High performance convolutional neural networks for document
    processing", 2006; here in blocks: of images, or of the rows of an image that is too large. The
    product is taken image by image: bits of BLAS depend on the number of rows, and what becomes of an
    image must not depend on the others in its batch.
    """

    def __init__(self, g: Geometry):
        self.g = g

    def forward(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        g = self.g
        y = np.empty((g.images[0], *g.out, g.groups * g.outputs), x.dtype)
        for block, columns, before in self._blocks(x.dtype):
            out = y[block].reshape(len(columns), -1, g.groups, g.outputs)
            for group, matrix in enumerate(self._matrices(w)):
                unfold(x[block[0]], group * g.inputs, before, g.stride, g.dilation, columns)
                np.matmul(columns.reshape(len(columns), -1, g.depth), matrix, out=out[:, :, group])
        return y

    def input_gradient(self, dy: np.ndarray, w: np.ndarray) -> np.ndarray:
        g = self.g
        dx = np.zeros(g.images, dy.dtype)
        for block, columns, before in self._blocks(dy.dtype):
            rows = dy[block].reshape(len(columns), -1, g.groups, g.outputs)
            for group, matrix in enumerate(self._matrices(w)):
                np.matmul(rows[:, :, group], matrix.T, out=columns.reshape(len(columns), -1, g.depth))
                fold(columns, group * g.inputs, before, g.stride, g.dilation, dx[block[0]])
        return dx

    def weight_gradient(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> None:
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
