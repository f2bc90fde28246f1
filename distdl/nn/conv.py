"""The convolution layer."""

from typing import Any

import numpy as np

from ..autograd import Parameter, Tensor
from ..core import checks
from ..ops.batch import Moments
from . import functional, init
from .functional import Padding
from .module import Module


class Conv2d(Module):
    """Cross-correlation of NHWC images with a bank of kernels.

    Args:
        in_channels, out_channels: extents of the last axis before and after.
        kernel_size, stride, dilation: an int, or (height, width).
        padding: zeros around the image, an int or (height, width); "valid" is 0; "same" keeps height and
            width (stride 1 only).
        groups: output channels of a group see the input channels of that group only.
        bias: whether there is one.
        exact: leave Winograd's algorithm out, which rounds about ten times as much as the others (DISTDL_EXACT=1
            does so for all layers).

    Attributes:
        weight: (kernel height, kernel width, in_channels // groups, out_channels).
        bias: (out_channels,) or None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: Padding = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        exact: bool = False,
    ):
        super().__init__()
        self.in_channels = checks.integer("in_channels", in_channels, 1)
        self.out_channels = checks.integer("out_channels", out_channels, 1)
        self.groups = checks.integer("groups", groups, 1)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise checks.bad_value(name, channels, f"must be divisible by `groups` (={groups})")
        self.kernel_size = checks.pair("kernel_size", kernel_size, 1)
        self.stride = checks.pair("stride", stride, 1)
        self.dilation = checks.pair("dilation", dilation, 1)
        self.padding = padding
        self.exact = exact
        functional.resolve_padding(padding, self.kernel_size, self.stride, self.dilation)
        self.weight = Parameter(np.zeros((*self.kernel_size, in_channels // groups, out_channels), np.float32))
        self.bias = Parameter(np.zeros(out_channels, np.float32)) if bias else None
        init.default_(self.weight, self.bias)

    def forward(self, x: Any, relu: bool = False, pool: bool = False, moments: Moments | None = None) -> Tensor:
        place = self.stride, self.padding, self.dilation, self.groups
        return functional.conv2d(x, self.weight, self.bias, *place, relu, pool, self.exact, moments)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        text += f", padding={self.padding!r}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text + ("" if self.bias is not None else ", bias=False")
