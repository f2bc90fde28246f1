"""Reverse-mode automatic differentiation of NumPy arrays."""

from .apply import apply
from .functions import concatenate, maximum, minimum, ones, op, pad, stack, where, zeros
from .gradcheck import gradcheck
from .mode import detect_anomaly, enable_grad, is_grad_enabled, no_grad
from .owner import GradientOwner, settle_gradients
from .parameter import Parameter
from .tensor import Tensor, tensor

__all__ = [
    "GradientOwner",
    "Parameter",
    "Tensor",
    "apply",
    "concatenate",
    "detect_anomaly",
    "enable_grad",
    "gradcheck",
    "is_grad_enabled",
    "maximum",
    "minimum",
    "no_grad",
    "ones",
    "op",
    "pad",
    "settle_gradients",
    "stack",
    "tensor",
    "where",
    "zeros",
]
