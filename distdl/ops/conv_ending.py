"""What follows a convolution within the same pass: a ReLU, and max pooling of 2x2 windows."""

import numpy as np

from ..core import memory
from ..core.errors import ArgumentError
from .batch import InputGradient, Moments, PartMoments, join_moments, moments_room
from .conv_geometry import Geometry


class Ending:
    """What follows, and the memory that it is written to.

    Attributes:
        relu, pool: whether they follow.
        y: the result.
        taps: where in each window its greatest value was; without channels if not `pool`.
        norm: the table of a batch norm behind (`InputGradient`), whose gradient is still to be computed; `relu` says
            then whether it is masked. Without channels if there is none.
        moments: of y, for a batch norm behind, if they are wanted.
    """

    def __init__(self, g: Geometry, dtype: np.dtype, relu: bool, pool: bool, moments: Moments | None = None):
        if pool and min(g.out) < 2:
            raise ArgumentError(f"the convolution's results (height, width = {g.out}) must be 2 or more to be pooled")
        self.relu, self.pool = relu, pool
        size = 2 if pool else 1
        shape = (g.images[0], g.out[0] // size, g.out[1] // size, g.groups * g.outputs)
        self.y = memory.empty(shape, dtype)
        self.taps = memory.empty(shape if pool else (g.images[0], 0, 0, 0), dtype)
        self.norm = np.empty((0, 0), dtype)
        self.moments = moments

    def part(self, y: np.ndarray, taps: np.ndarray) -> "Ending":
        """Return the same ending for other arrays."""
        ending = Ending.__new__(Ending)
        ending.relu, ending.pool, ending.y, ending.taps = self.relu, self.pool, y, taps
        ending.norm, ending.moments = self.norm, None
        return ending

    def moments_room(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return memory for the moments of a part; without channels if they are not wanted."""
        return moments_room(0 if self.moments is None else self.y.shape[3])

    def join_moments(self, parts: list[PartMoments]) -> None:
        """Join the moments of the parts' images, if they are wanted and there are some."""
        if self.moments is not None and self.y.size:
            self.moments.found = join_moments(parts)

    def joined(
        self, dy: np.ndarray, behind: np.ndarray | InputGradient | None, joins_norm: bool
    ) -> tuple["Ending", np.ndarray]:
        """Return ending and gradient for a backward pass that does what the operation behind left to it."""
        if isinstance(behind, InputGradient):
            if self.relu or self.pool or not joins_norm or dy.dtype != np.float32:
                return self, behind.compute()
            ending = self.part(self.y, self.taps)
            ending.relu, ending.norm = behind.masked, behind.norm
            return ending, dy
        if behind is None or self.relu:
            return self, dy
        if self.pool:
            return self, np.where(behind > 0, dy, dy.dtype.type(0))
        ending = self.part(behind, self.taps)
        ending.relu = True
        return ending, dy
