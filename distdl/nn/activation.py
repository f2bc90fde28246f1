"""Activation layers."""

from typing import Any

from ..autograd import Tensor
from ..core import checks
from . import functional
from .module import Module


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Any) -> Tensor:
        return functional.relu(x)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope * x."""

    def __init__(self, negative_slope: float = 0.01):
        super().__init__()
        self.negative_slope = checks.real("negative_slope", negative_slope)

    def forward(self, x: Any) -> Tensor:
        return functional.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"{self.negative_slope:g}"


class ELU(Module):
    """x where x > 0, else alpha * (exp(x) - 1)."""

    def __init__(self, alpha: float = 1.0):
        super().__init__()
        self.alpha = checks.real("alpha", alpha)

    def forward(self, x: Any) -> Tensor:
        return functional.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"{self.alpha:g}"


class GELU(Module):
    """x * Phi(x), Phi the normal distribution's (D. Hendrycks, K. Gimpel 2016).

    Args:
        approximate: "none", or "tanh" for the cheaper form.
    """

    def __init__(self, approximate: str = "none"):
        super().__init__()
        self.approximate = checks.one_of("approximate", approximate, ("none", "tanh"))

    def forward(self, x: Any) -> Tensor:
        return functional.gelu(x, self.approximate)


class SiLU(Module):
    """x * sigmoid(x)."""

    def forward(self, x: Any) -> Tensor:
        return functional.silu(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Any) -> Tensor:
        return functional.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Any) -> Tensor:
        return functional.tanh(x)


class Softplus(Module):
    """log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0):
        super().__init__()
        self.beta = checks.real("beta", beta, above=0.0)
        self.threshold = checks.real("threshold", threshold)

    def forward(self, x: Any) -> Tensor:
        return functional.softplus(x, self.beta, self.threshold)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along an axis."""

    def __init__(self, axis: int = -1):
        super().__init__()
        self.axis = checks.integer("axis", axis)

    def forward(self, x: Any) -> Tensor:
        return functional.softmax(x, self.axis)


class LogSoftmax(Module):
    """The logarithm of the softmax along an axis."""

    def __init__(self, axis: int = -1):
        super().__init__()
        self.axis = checks.integer("axis", axis)

    def forward(self, x: Any) -> Tensor:
        return functional.log_softmax(x, self.axis)
