"""Layers that only change the shape."""

from typing import Any

from ..autograd import Tensor
from ..core import checks
from .module import Module


class Flatten(Module):
    """Join the axes `start_axis` to `end_axis` into one; NHWC images become rows of (height, width, channel)."""

    def __init__(self, start_axis: int = 1, end_axis: int = -1):
        super().__init__()
        self.start_axis = checks.integer("start_axis", start_axis)
        self.end_axis = checks.integer("end_axis", end_axis)

    def forward(self, x: Any) -> Tensor:
        flat: Tensor = x.flatten(self.start_axis, self.end_axis)
        return flat


class Identity(Module):
    """The input itself."""

    def forward(self, x: Any) -> Any:
        return x
