"""`Parameter`: a leaf that an optimizer updates."""

import sys
from typing import Any

import numpy as np

from ..core import checks, memory
from .owner import GradientOwner
from .tensor import Tensor, tensor


class Parameter(Tensor):
    """A tensor that registers itself as a parameter when a `Module` gets it as an attribute.

    Args:
        values: initial values, copied; floats of Python become float32.
        requires_grad: False freezes it.

    Attributes:
        name: its name within the outermost module that named it, for messages; "" before.
    """

    __slots__ = ("_buffer", "_owner", "_spare", "name")

    def __init__(self, values: Any, requires_grad: bool = True):
        array = np.array(tensor(values).data, order="C")
        if array.dtype.kind != "f":
            raise checks.bad_type("values", array.dtype, "of a Parameter must be float32 or float64")
        super().__init__(array, requires_grad)
        self.name = ""
        self._buffer: np.ndarray | None = None
        self._owner: GradientOwner | None = None
        self._spare = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        out = super().__deepcopy__(memo)
        out.name = self.name  # type: ignore[attr-defined]
        return out

    def __repr__(self) -> str:
        return f"Parameter {self.name}: {super().__repr__()}"


def forget_gradient(tensor: Tensor) -> None:
    """Set `.grad` to None. If nobody else holds the array, the next backward() writes into it.

    So gradients stay where they are from step to step, and no memory is asked for.
    """
    gradient, tensor.grad = tensor.grad, None
    if gradient is not None and isinstance(tensor, Parameter) and tensor._owner is None:
        is_ours = type(gradient) is np.ndarray and not memory.is_view(gradient) and gradient.flags.carray
        fits = is_ours and gradient.shape == tensor.shape and gradient.dtype == tensor.dtype
        tensor._spare = fits and sys.getrefcount(gradient) == _HELD_ONCE
        tensor._buffer = gradient if tensor._spare else None


def _held_once() -> int:
    array = np.zeros(0)
    return sys.getrefcount(array)


_HELD_ONCE = _held_once()
"""What `sys.getrefcount` says of an array that one local name holds; versions of Python differ."""
