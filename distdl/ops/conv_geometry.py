"""The extents of a convolution."""

import copy

from ..core.errors import ArgumentError
from ..kernels.taps import Pair
from .checking import IMAGES

Padding = tuple[Pair, Pair]
Extents = tuple[int, ...]


class Geometry:
    """The extents of one convolution, from the shapes of its images and its weights."""

    def __init__(self, x: Extents, w: Extents, stride: Pair, padding: Padding, dilation: Pair, groups: int):
        self.images = x
        self.kernel = w[:2]
        self.groups = groups
        self.inputs, self.outputs = w[2], w[3] // groups
        self.stride, self.dilation = stride, dilation
        self.is_padded = padding != ((0, 0), (0, 0))
        self.before = (padding[0][0], padding[1][0])
        self.out = tuple(self._extent(x, axis, sum(padding[axis])) for axis in range(2))
        self.depth = self.kernel[0] * self.kernel[1] * self.inputs

    @property
    def cost(self) -> int:
        """Multiplications for one image."""
        return int(self.out[0] * self.out[1] * self.depth * self.outputs)

    def _extent(self, x: Extents, axis: int, padding: int) -> int:
        room = x[1 + axis] + padding
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        if room < reach:
            name = ("height", "width")[axis]
            raise ArgumentError(
                f"`x` (shape {x}) must have a padded {name} (={room}) >= {reach}, what the kernel spans: {IMAGES}"
            )
        return int((room - reach) // self.stride[axis] + 1)

    def one_group(self) -> "Geometry":
        """Return the geometry of one of the groups."""
        g = copy.copy(self)
        g.groups, g.images = 1, (*self.images[:3], self.inputs)
        return g
