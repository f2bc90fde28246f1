"""Checking gradients against finite differences."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import checks
from ..core.errors import ArgumentError, GraphError
from .mode import no_grad
from .tensor import Tensor


def gradcheck(
    function: Callable[..., Tensor],
    inputs: Tensor | Sequence[Any],
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Compare the gradients of `function` with central differences, value by value.

    Args:
        function: takes `inputs`, returns a tensor of any shape.
        inputs: tensors; those that require a gradient must be float64, and are checked.
        eps: step of the differences.
        atol, rtol: |analytic - numeric| <= atol + rtol * |numeric|.
        raise_exception: raise on a difference; else return False.

    Raises:
        GraphError: a gradient is wrong; the message shows the worst value, analytic above numeric.
    """
    inputs = [inputs] if isinstance(inputs, (Tensor, np.ndarray)) else list(inputs)
    checked = [i for i, value in enumerate(inputs) if isinstance(value, Tensor) and value.requires_grad]
    if not checked:
        kinds = ", ".join(sorted({type(value).__name__ for value in inputs})) or "nothing"
        raise ArgumentError(
            f"`inputs` (of {kinds}) must hold a tensor that requires a gradient: distdl.tensor(x, requires_grad=True)"
        )
    for i in checked:
        if inputs[i].dtype != np.float64:
            raise checks.bad_type(f"inputs[{i}]", inputs[i].dtype, "must be float64 for finite differences")
        if not inputs[i].is_leaf:
            raise checks.bad_value(f"inputs[{i}]", inputs[i], "must be a leaf; use .detach().requires_grad_()")
        inputs[i].data = np.array(inputs[i].data, order="C")
        inputs[i].grad = None
    y = function(*inputs)
    # A fixed, uneven weighting of the outputs makes one scalar of them without hiding errors that cancel.
    weights = np.cos(np.arange(y.size, dtype=np.float64)).reshape(y.shape)
    y.backward(weights)

    def value() -> float:
        with no_grad():
            return float((function(*inputs).data * weights).sum())

    for i in checked:
        grad = inputs[i].grad
        analytic = np.zeros(inputs[i].shape) if grad is None else grad
        numeric = _differences(value, inputs[i].data, eps)
        error = np.abs(analytic - numeric) - (atol + rtol * np.abs(numeric))
        if error.size and not error.max() <= 0:
            if not raise_exception:
                return False
            worst = np.unravel_index(int(np.argmax(np.nan_to_num(error, nan=np.inf))), error.shape)
            place = tuple(map(int, worst))
            raise GraphError(
                f"gradient by inputs[{i}]{list(place)} is wrong\nanalytic: {analytic[worst]:.9g}\n"
                f"numeric:  {numeric[worst]:.9g}"
            )
    return True


def _differences(value: Callable[[], float], array: np.ndarray, eps: float) -> np.ndarray:
    slopes = np.empty(array.shape)
    for place in np.ndindex(*array.shape):
        before = array[place]
        array[place] = before + eps
        above = value()
        array[place] = before - eps
        below = value()
        array[place] = before
        slopes[place] = (above - below) / (2 * eps)
    return slopes
