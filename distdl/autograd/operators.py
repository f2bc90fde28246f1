"""The operators and methods of `Tensor`, each one operation of `distdl.ops`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import checks
from ..core.errors import GraphError
from ..ops import activation, arithmetic, elementwise, matmul, reduction, shape
from ..ops.reduction import Axis
from .mode import is_grad_enabled
from .operands import unify

if TYPE_CHECKING:
    from .tensor import Tensor


apply: Callable[..., Tensor] = None  # type: ignore[assignment]
"""`distdl.autograd.apply`; `apply.py` puts it here, since it needs `Tensor`, which needs what is below."""


class Operators:
    """What can be written with tensors as with NumPy arrays."""

    __slots__ = ()

    if TYPE_CHECKING:
        _data: np.ndarray
        _version: list[int]
        requires_grad: bool

        @property
        def shape(self) -> tuple[int, ...]: ...

        @property
        def ndim(self) -> int: ...

    # --- arithmetic ---

    def __add__(self, other: Any) -> Tensor:
        return apply(arithmetic.add, *unify(self, other))

    def __radd__(self, other: Any) -> Tensor:
        return apply(arithmetic.add, *unify(other, self))

    def __sub__(self, other: Any) -> Tensor:
        return apply(arithmetic.subtract, *unify(self, other))

    def __rsub__(self, other: Any) -> Tensor:
        return apply(arithmetic.subtract, *unify(other, self))

    def __mul__(self, other: Any) -> Tensor:
        return apply(arithmetic.multiply, *unify(self, other))

    def __rmul__(self, other: Any) -> Tensor:
        return apply(arithmetic.multiply, *unify(other, self))

    def __truediv__(self, other: Any) -> Tensor:
        return apply(arithmetic.divide, *unify(self, other))

    def __rtruediv__(self, other: Any) -> Tensor:
        return apply(arithmetic.divide, *unify(other, self))

    def __pow__(self, other: Any) -> Tensor:
        return apply(arithmetic.power, *unify(self, other))

    def __rpow__(self, other: Any) -> Tensor:
        return apply(arithmetic.power, *unify(other, self))

    def __matmul__(self, other: Any) -> Tensor:
        return apply(matmul.matmul, *unify(self, other))

    def __rmatmul__(self, other: Any) -> Tensor:
        return apply(matmul.matmul, *unify(other, self))

    def __neg__(self) -> Tensor:
        return apply(arithmetic.negative, self)

    def __abs__(self) -> Tensor:
        return apply(elementwise.absolute, self)

    # --- in place: real where nothing is recorded, else the name is bound to a new tensor ---

    def _in_place(self, operator: Any, name: str, other: Any) -> Any:
        recorded = is_grad_enabled() and (self.requires_grad or getattr(other, "requires_grad", False))
        if not recorded:
            values = unify(self, other)[1]
            operator(self._data, getattr(values, "_data", values), out=self._data, casting="same_kind")
            self._version[0] += 1
            return self
        if getattr(self, "is_leaf", False) and self.requires_grad:
            raise GraphError(
                f"a leaf that requires a gradient cannot be changed in place (`{name}`) but under no_grad()"
            )
        return None

    def __iadd__(self, other: Any) -> Tensor:
        changed: Tensor | None = self._in_place(np.add, "+=", other)
        return self + other if changed is None else changed

    def __isub__(self, other: Any) -> Tensor:
        changed: Tensor | None = self._in_place(np.subtract, "-=", other)
        return self - other if changed is None else changed

    def __imul__(self, other: Any) -> Tensor:
        changed: Tensor | None = self._in_place(np.multiply, "*=", other)
        return self * other if changed is None else changed

    def __itruediv__(self, other: Any) -> Tensor:
        changed: Tensor | None = self._in_place(np.divide, "/=", other)
        return self / other if changed is None else changed

    def __setitem__(self, index: Any, values: Any) -> None:
        if is_grad_enabled() and (self.requires_grad or getattr(values, "requires_grad", False)):
            raise GraphError("x[...] = y cannot be recorded; use where() or concatenate(), or write under no_grad()")
        self._data[index] = getattr(values, "_data", values)
        self._version[0] += 1

    # --- comparisons: no gradient ---

    def _compare(self, operator: Any, other: Any) -> Tensor:
        from .tensor import Tensor

        return Tensor(np.asarray(operator(self._data, getattr(other, "_data", other))))

    def __lt__(self, other: Any) -> Tensor:
        return self._compare(np.less, other)

    def __le__(self, other: Any) -> Tensor:
        return self._compare(np.less_equal, other)

    def __gt__(self, other: Any) -> Tensor:
        return self._compare(np.greater, other)

    def __ge__(self, other: Any) -> Tensor:
        return self._compare(np.greater_equal, other)

    def __eq__(self, other: Any) -> Any:
        return self._compare(np.equal, other)

    def __ne__(self, other: Any) -> Any:
        return self._compare(np.not_equal, other)

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        return float(self._data.item())

    def __int__(self) -> int:
        return int(self._data.item())

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise checks.bad_type("shape", self.shape, "has no axis to iterate over")
        return (self[i] for i in range(len(self)))

    # --- functions of the values ---

    def exp(self) -> Tensor:
        return apply(elementwise.exp, self)

    def log(self) -> Tensor:
        return apply(elementwise.log, self)

    def sqrt(self) -> Tensor:
        return apply(elementwise.sqrt, self)

    def abs(self) -> Tensor:
        return apply(elementwise.absolute, self)

    def sin(self) -> Tensor:
        return apply(elementwise.sin, self)

    def cos(self) -> Tensor:
        return apply(elementwise.cos, self)

    def pow(self, exponent: Any) -> Tensor:
        return self.__pow__(exponent)

    def relu(self) -> Tensor:
        return apply(activation.relu, self)

    def sigmoid(self) -> Tensor:
        return apply(activation.sigmoid, self)

    def tanh(self) -> Tensor:
        return apply(activation.tanh, self)

    def clip(self, minimum: float | None = None, maximum: float | None = None) -> Tensor:
        # A NumPy scalar has a type of its own, to which the result would be promoted.
        low, high = (bound.item() if isinstance(bound, np.generic) else bound for bound in (minimum, maximum))
        return apply(elementwise.clip, self, minimum=low, maximum=high)

    def astype(self, dtype: Any) -> Tensor:
        return apply(elementwise.astype, self, dtype=np.dtype(dtype))

    def copy(self) -> Tensor:
        """Return a recorded copy."""
        return apply(elementwise.astype, self, dtype=self._data.dtype)

    # --- reductions ---

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return apply(reduction.sum, self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return apply(reduction.mean, self, axis=axis, keepdims=keepdims)

    def var(self, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> Tensor:
        return apply(reduction.variance, self, axis=axis, keepdims=keepdims, correction=correction)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return apply(reduction.max, self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return apply(reduction.min, self, axis=axis, keepdims=keepdims)

    def prod(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return apply(reduction.prod, self, axis=axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None) -> np.ndarray:
        """Return indices of the greatest values (no gradient)."""
        return np.asarray(self._data.argmax(axis))

    # --- shape ---

    def reshape(self, *shape_: Any) -> Tensor:
        extents = shape_[0] if len(shape_) == 1 and isinstance(shape_[0], (tuple, list)) else shape_
        return apply(shape.reshape, self, shape=tuple(extents))

    def flatten(self, start_axis: int = 0, end_axis: int = -1) -> Tensor:
        """Join the axes from one to another, both included, into one."""
        ndim = max(self.ndim, 1)
        for name, axis in (("start_axis", start_axis), ("end_axis", end_axis)):
            if not -ndim <= checks.integer(name, axis) < ndim:
                raise checks.bad_value(name, axis, f"must be an axis of the tensor, which has {self.ndim}")
        start, end = start_axis % ndim, end_axis % ndim
        if start > end:
            raise checks.bad_value("start_axis", start_axis, f"must not come after `end_axis` (={end_axis})")
        return self.reshape(*self.shape[:start], math.prod(self.shape[start : end + 1]), *self.shape[end + 1 :])

    def transpose(self, *axes: Any) -> Tensor:
        if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))):
            axes = tuple(axes[0] or ())
        return apply(shape.transpose, self, axes=axes or None)

    @property
    def T(self) -> Tensor:
        """The transpose, axes in reverse order."""
        return self.transpose()

    def swapaxes(self, first: int, second: int) -> Tensor:
        axes = list(range(self.ndim))
        axes[first], axes[second] = axes[second], axes[first]
        return self.transpose(*axes)

    def squeeze(self, axis: int | tuple[int, ...] | None = None) -> Tensor:
        return self.reshape(np.squeeze(self._data, axis).shape)

    def expand_dims(self, axis: int | tuple[int, ...]) -> Tensor:
        return self.reshape(np.expand_dims(self._data, axis).shape)

    def broadcast_to(self, *shape_: Any) -> Tensor:
        extents = shape_[0] if len(shape_) == 1 and isinstance(shape_[0], (tuple, list)) else shape_
        return apply(shape.broadcast_to, self, shape=tuple(extents))

    def __getitem__(self, index: Any) -> Tensor:
        parts = index if isinstance(index, tuple) else (index,)
        plain = tuple(
            part._data if hasattr(part, "_version") else np.asarray(part) if isinstance(part, list) else part
            for part in parts
        )
        return apply(shape.getitem, self, index=plain if isinstance(index, tuple) else plain[0])
