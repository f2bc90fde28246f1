"""What two operands become before an operation sees them."""

from typing import Any

import numpy as np

from ..core import checks


def unify(a: Any, b: Any) -> tuple[Any, Any]:
    """Bring two operands to one type, without promoting float32 to float64.

    Python and NumPy scalars take the other's type, integer arrays become floats of the other's
    type, and plain float arrays are cast to the tensor's type.

    Raises:
        ArgumentTypeError: two tensors of different float types.
    """
    a_is_tensor, b_is_tensor = hasattr(a, "_version"), hasattr(b, "_version")
    if a_is_tensor and b_is_tensor:
        if a._data.dtype == b._data.dtype:
            return a, b
        if a.dtype.kind == b.dtype.kind == "f":
            raise checks.bad_type("dtype", f"{a.dtype} and {b.dtype}", "must be the same in both; use .astype()")
        return (_float_like(a, b), b) if b.dtype.kind == "f" else (a, _float_like(b, a))
    if a_is_tensor:
        return a, _plain_like(b, a)
    return _plain_like(a, b), b


def _float_like(operand: Any, like: Any) -> Any:
    return operand.astype(like.dtype) if like.dtype.kind == "f" else operand


def _plain_like(value: Any, like: Any) -> Any:
    if isinstance(value, (int, float)):
        return np.asarray(value, like.dtype if like.dtype.kind == "f" else None)
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise checks.bad_type("operand", value, "must be a Tensor, a number, or an array of numbers")
    return array.astype(like.dtype, copy=False) if like.dtype.kind == "f" else array
