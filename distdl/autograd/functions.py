"""Functions of tensors that are no methods, after NumPy's."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from ..core import checks
from ..ops import arithmetic, elementwise, shape
from .apply import apply
from .operands import unify
from .tensor import Tensor, tensor


def concatenate(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Join tensors along an axis that they have."""
    return apply(shape.concatenate, *_several(tensors), axis=axis)


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis."""
    return apply(shape.stack, *_several(tensors), axis=axis)


def _several(tensors: Sequence[Any]) -> list[Tensor]:
    if not tensors:
        raise checks.bad_value("tensors", tensors, "must not be empty")
    like = next((value.dtype for value in tensors if isinstance(value, Tensor)), None)
    several = [value if isinstance(value, Tensor) else tensor(value, dtype=like) for value in tensors]
    types = {value.dtype for value in several}
    if len(types) > 1:
        raise checks.bad_type("tensors", sorted(map(str, types)), "must have one dtype; use .astype()")
    return several


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """Take values of `a` where `condition` holds, else of `b`; all three broadcast."""
    mask = condition.data if isinstance(condition, Tensor) else np.asarray(condition)
    if mask.dtype != bool:
        raise checks.bad_type("condition", mask.dtype, "must be boolean")
    return apply(elementwise.where, *_pair(a, b), condition=mask)


def maximum(a: Any, b: Any) -> Tensor:
    """Take the greater of two values, element by element."""
    return apply(arithmetic.maximum, *_pair(a, b))


def minimum(a: Any, b: Any) -> Tensor:
    """Take the lesser of two values, element by element."""
    return apply(arithmetic.minimum, *_pair(a, b))


def _pair(a: Any, b: Any) -> tuple[Any, Any]:
    return unify(a if isinstance(a, Tensor) or isinstance(b, Tensor) else tensor(a), b)


def pad(x: Tensor, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Add `widths[i]` = (before, after) values along axis i, as `numpy.pad`."""
    if len(widths) != x.ndim:
        raise checks.bad_value("widths", widths, f"must have one pair for each of the {x.ndim} axes")
    return apply(shape.pad, x, widths=tuple(map(tuple, widths)), value=value)


def zeros(*extents: int, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Make a tensor of zeros."""
    return Tensor(np.zeros(extents, dtype), requires_grad)


def ones(*extents: int, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Make a tensor of ones."""
    return Tensor(np.ones(extents, dtype), requires_grad)


def op(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """Make a differentiable function of tensors out of one of arrays.

        @distdl.op
        def square(x):
            return x * x, lambda dy: 2 * x * dy

    The function returns its result and a function for its gradient: `backward(dy)`, or
    `backward(dy, wanted)` where work can be saved; it returns a gradient for each positional
    argument. Options come by keyword. `distdl.ops.registry` has the whole contract; other than
    there, a gradient may also be an array that is kept elsewhere: it is copied.
    """
    function.reads_inputs = True  # type: ignore[attr-defined]
    function.joins_relu = function.joins_norm = function.adds = False  # type: ignore[attr-defined]

    @wraps(function)
    def call(*args: Any, **options: Any) -> Tensor:
        return apply(function, *args, **options)

    return call
