"""The fully connected layer."""

from typing import Any

import numpy as np

from ..autograd import Parameter, Tensor
from ..core import checks
from . import functional, init
from .module import Module


class Linear(Module):
    """y = x @ weight + bias, over the last axis.

    Args:
        in_features, out_features: extents of the last axis before and after.
        bias: whether there is one.

    Attributes:
        weight: (in_features, out_features), at first uniform within 1 / sqrt(in_features).
        bias: (out_features,) or None, at first alike.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__()
        self.in_features = checks.integer("in_features", in_features, 1)
        self.out_features = checks.integer("out_features", out_features, 1)
        self.weight = Parameter(np.zeros((in_features, out_features), np.float32))
        self.bias = Parameter(np.zeros(out_features, np.float32)) if bias else None
        init.default_(self.weight, self.bias)

    def forward(self, x: Any, relu: bool = False) -> Tensor:
        return functional.linear(x, self.weight, self.bias, relu)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"
