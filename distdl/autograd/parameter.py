"""`Parameter`: a leaf that an optimizer updates."""

from typing import Any

import numpy as np

from ..core import checks
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

    __slots__ = ("_buffer", "_owner", "name")

    def __init__(self, values: Any, requires_grad: bool = True):
        array = np.array(tensor(values).data, order="C")
        if array.dtype.kind != "f":
            raise checks.bad_type("values", array.dtype, "of a Parameter must be float32 or float64")
        super().__init__(array, requires_grad)
        self.name = ""
        self._buffer: np.ndarray | None = None
        self._owner: GradientOwner | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        out = super().__deepcopy__(memo)
        out.name = self.name  # type: ignore[attr-defined]
        return out

    def __repr__(self) -> str:
        return f"Parameter {self.name}: {super().__repr__()}"
