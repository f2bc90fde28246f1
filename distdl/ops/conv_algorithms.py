"""The ways to convolve, and which one is taken: that depends on one image, the weights, the type and the CPU only."""

from typing import Protocol

import numpy as np

from ..core import settings
from .conv_direct import Direct
from .conv_ending import Ending
from .conv_geometry import Geometry
from .conv_groups import Groups
from .conv_plain import Depthwise, Unfolding
from .conv_winograd import Winograd


class Algorithm(Protocol):
    """The passes of a convolution, on dense arrays."""

    def forward(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, ending: Ending) -> np.ndarray:
        """Write the convolution of x with w, + b, to the ending, and return its result."""
        ...

    def backward(
        self, x: np.ndarray, w: np.ndarray, ending: Ending, dy: np.ndarray, dx: bool, dw: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """Return the gradients of the images, if `dx`, and of the bias; write that of the weights to dw."""
        ...


def choose(g: Geometry, dtype: np.dtype) -> Algorithm:
    """Return the algorithm for a convolution."""
    if g.groups > 1:
        return Depthwise(g) if g.inputs == 1 else Groups(g, choose(g.one_group(), dtype))
    if dtype != np.float32 or g.dilation != (1, 1):
        return Unfolding(g)
    if Winograd.suits(g) and not settings.exact():
        return Winograd(g)
    return Direct(g) if Direct.suits(g) else Unfolding(g)
