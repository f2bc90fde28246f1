"""The ways to convolve, and which one is taken."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ..core import settings
from . import conv_table
from .conv_direct import Direct
from .conv_ending import Ending
from .conv_geometry import Geometry
from .conv_groups import Groups
from .conv_plain import Depthwise, Unfolding
from .conv_pointwise import Pointwise
from .conv_winograd import Winograd


class Algorithm(Protocol):
    """The passes of a convolution, on dense arrays.

    Attributes:
        joins_norm: whether the backward pass takes a batch norm behind.
        adds: whether it adds the gradients of images to others.
    """

    joins_norm: bool
    adds: bool

    def forward(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, ending: Ending) -> np.ndarray:
        """Write the convolution of x with w, + b, to the ending, and return its result."""
        ...

    def backward(
        self, x: np.ndarray, w: np.ndarray, ending: Ending, dy: np.ndarray, dx: Any, dw: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """Return the gradients of the images, if `dx`, and of the bias; write that of the weights to dw.

        dx: whether the gradients of the images are wanted; if it `adds`, it may be an array that they are added to.
        """
        ...


ALGORITHMS: dict[str, Callable[[Geometry], Algorithm]] = {
    "winograd": Winograd,
    "direct": Direct,
    "unfolding": Unfolding,
}


def choose(g: Geometry, dtype: np.dtype, exact: bool = False, pool: bool = False) -> Algorithm:
    """Return the algorithm for a convolution.

    Args:
        g: its extents.
        dtype: of its arrays.
        exact: leave Winograd's algorithm out.
        pool: whether pooling follows.
    """
    if g.groups > 1:
        return Depthwise(g) if g.inputs == 1 else Groups(g, choose(g.one_group(), dtype, exact, pool))
    if Pointwise.suits(g) and dtype == np.float32 and not pool:
        return Pointwise(g)
    names = suiting(g, dtype, exact or settings.exact())
    return ALGORITHMS[names[0] if len(names) == 1 else conv_table.fastest(conv_table.Shape.of(g), names)](g)


def suiting(g: Geometry, dtype: np.dtype, exact: bool) -> tuple[str, ...]:
    """Return the names of the algorithms that can take a convolution without groups."""
    if dtype != np.float32 or g.dilation != (1, 1):
        return ("unfolding",)
    winograd = Winograd.suits(g) and not exact
    return (("winograd",) if winograd else ()) + (("direct",) if Direct.suits(g) else ()) + ("unfolding",)
