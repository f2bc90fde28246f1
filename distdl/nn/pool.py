"""Pooling layers, for NHWC images."""

from typing import Any

from ..autograd import Tensor
from ..core import checks
from . import functional
from .module import Module

Size = int | tuple[int, int]


class _Pool(Module):
    """What the pooling layers with a window share."""

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0):
        super().__init__()
        self.kernel_size = checks.pair("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else checks.pair("stride", stride, 1)
        self.padding = functional.check_pool_padding(padding, self.kernel_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool2d(_Pool):
    """The greatest value of each window.

    Args:
        kernel_size, padding: an int, or (height, width); padding at most half the window.
        stride: step of the window; by default its size.
    """

    @property
    def halves(self) -> bool:
        """Whether the windows are of 2x2 values, side by side from the corner on."""
        return self.kernel_size == self.stride == (2, 2) and self.padding == (0, 0)

    def forward(self, x: Any) -> Tensor:
        return functional.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(_Pool):
    """The mean of each window.

    Args:
        kernel_size, padding: an int, or (height, width); padding at most half the window.
        stride: step of the window; by default its size.
        count_include_pad: whether padding counts in the mean.
    """

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, count_include_pad: bool = True
    ):
        super().__init__(kernel_size, stride, padding)
        self.count_include_pad = count_include_pad

    def forward(self, x: Any) -> Tensor:
        return functional.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.count_include_pad)


class AdaptiveAvgPool2d(Module):
    """Means of windows that are chosen so that the result has a given height and width.

    Args:
        output_size: an int, or (height, width).
    """

    def __init__(self, output_size: Size):
        super().__init__()
        self.output_size = checks.pair("output_size", output_size, 1)

    def forward(self, x: Any) -> Tensor:
        return functional.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"{self.output_size}"
