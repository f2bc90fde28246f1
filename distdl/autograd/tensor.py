"""`Tensor`: an array that remembers how it was computed."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..core import checks, spans
from ..core.errors import GraphError
from .mode import is_grad_enabled
from .node import Hook, Node
from .operators import Operators
from .owner import GradientOwner, owners_of
from .tape import Walk

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Tensor(Operators):
    """An n-dimensional array that gradients can be taken of.

    Attributes:
        data: the values, a NumPy array. What is written through it reaches the tensor.
        grad: for a leaf, the sum of the gradients that backward() calls found since it was None; an
            array of the tensor's shape and dtype.
        denominator: for a loss with mean reduction, what its sum was divided by (rows, or the sum
            of class weights), which weighs this rank's gradient among the ranks; else None. NaN
            after means over different counts were mixed.
    """

    __slots__ = ("__weakref__", "_data", "_hooks", "_node", "_requires_grad", "_version", "denominator", "grad")
    __array_priority__ = 1000.0  # so that ndarray + Tensor asks the Tensor
    _buffer: np.ndarray | None = None
    _owner: GradientOwner | None = None
    _spare = False  # whether `_buffer` was left by `forget_gradient`, to be written to once

    def __init__(self, data: np.ndarray, requires_grad: bool = False):
        self._data = data
        self._requires_grad = False
        self.grad: np.ndarray | None = None
        self.denominator: float | None = None
        self._node: Node | None = None
        self._version = [0]
        self._hooks: list[Hook] | None = None
        if requires_grad:
            self.requires_grad = True

    @property
    def data(self) -> np.ndarray:
        return self._data

    @data.setter
    def data(self, values: ArrayLike) -> None:
        array = np.asarray(values)
        if array.shape != self._data.shape or array.dtype != self._data.dtype:
            raise checks.bad_value(
                "data", f"{array.dtype} {array.shape}", f"must have the tensor's {self._data.dtype} {self._data.shape}"
            )
        self._data = array
        self._version[0] += 1

    @property
    def requires_grad(self) -> bool:
        """Whether operations on it are recorded. Can be set on leaves of float32 or float64."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        if self._node is not None:
            raise GraphError("`requires_grad` can be changed on leaves only; use detach()")
        if requires_grad and self.dtype not in _FLOATS:
            raise checks.bad_type("requires_grad", requires_grad, f"needs float32 or float64 values, not {self.dtype}")
        self._requires_grad = bool(requires_grad)

    @property
    def shape(self) -> tuple[int, ...]:
        """The extents of the axes."""
        return self._data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values."""
        return self._data.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """The number of values."""
        return self._data.size

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by the user, not by a recorded operation."""
        return self._node is None

    def numpy(self) -> np.ndarray:
        """Return the values; what is written to them reaches the tensor."""
        return self._data

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        if self.requires_grad and is_grad_enabled():
            raise checks.bad_type(
                "tensor", f"shape {self.shape}", "requires a gradient: NumPy would lose it; use .detach() or .numpy()"
            )
        return np.array(self._data, dtype=dtype, copy=copy)

    def item(self) -> Any:
        """Return the only value as a Python number."""
        if self.size != 1:
            raise checks.bad_value("shape", self.shape, "must hold one value for item()")
        return self._data.item()

    def detach(self) -> Tensor:
        """Return a tensor of the same values (shared) that is not part of the graph."""
        out = Tensor(self._data)
        out._version = self._version
        return out

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set `requires_grad` of a leaf, and return it."""
        self.requires_grad = requires_grad
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """Copy a leaf, values and gradient; the copy has no hooks, and no synchronizer."""
        if self._node is not None:
            raise GraphError("only leaves can be copied with their graph left behind; use detach()")
        out = type(self)(self._data.copy(), self._requires_grad)
        out.grad = None if self.grad is None else self.grad.copy()
        out.denominator = self.denominator
        memo[id(self)] = out
        return out

    def backward(
        self, gradient: ArrayLike | Tensor | None = None, retain_graph: bool = False, weight: float | None = None
    ) -> None:
        """Add the gradient of this tensor to `.grad` of every leaf that it depends on.

        Args:
            gradient: gradient of the final result by this tensor, of its shape; 1 for a single value.
            retain_graph: keep the graph for another backward().
            weight: how much this rank's gradient counts among the ranks (rows, say); by default the
                `denominator` that a loss with mean reduction carries, else all ranks count alike.

        Raises:
            GraphError: nothing here requires a gradient; `gradient` is missing for a tensor of several
                values; the graph was freed; or a tensor it needs was changed in place.
        """
        if not self.requires_grad:
            raise GraphError("backward() on a tensor that does not require a gradient, nor depends on one that does")
        seed = self._seed(gradient)
        if weight is None:
            weight = self.denominator
        else:
            weight = checks.real("weight", weight, 0.0)
        start = spans.clock()
        walk = Walk(self)
        owners = owners_of(walk.uses)
        factors = {owner.begin_backward(weight) for owner in owners} or {1.0}
        if len(factors) > 1:
            raise GraphError("parameters of several synchronizers accumulate in different ways in one backward()")
        factor = factors.pop()
        walk.watch([owner for owner in owners if owner.is_watching])
        walk.run(seed if factor == 1.0 else seed * self.dtype.type(factor), retain_graph)
        if spans.recorder is not None:
            spans.recorder.add("backward", "pass", start)
        for owner in owners:
            owner.end_backward()

    def _seed(self, gradient: ArrayLike | Tensor | None) -> np.ndarray:
        if gradient is None:
            if self.size != 1:
                raise GraphError(
                    f"backward() of a tensor of shape {self.shape} needs `gradient`; a single value alone needs none"
                )
            return np.ones_like(self._data)
        array = np.asarray(gradient._data if isinstance(gradient, Tensor) else gradient, self.dtype)
        if array.shape != self.shape:
            raise checks.bad_value("gradient", f"shape {array.shape}", f"must have the tensor's shape {self.shape}")
        return array

    def register_hook(self, hook: Hook) -> Callable[[], None]:
        """Call `hook(gradient)` when this tensor's gradient is known; a result that is not None replaces it.

        The array is read-only, since others may hold it too.
        A leaf's hook sees the sum over all uses within one backward(). Returns a function that removes the hook.
        """
        if not self.requires_grad:
            raise GraphError("register_hook() on a tensor that does not require a gradient")
        if self._node is not None:
            self._node.hooks = hooks = self._node.hooks or []
        else:
            self._hooks = hooks = self._hooks or []
        hooks.append(hook)

        def remove() -> None:
            if hook in hooks:
                hooks.remove(hook)

        return remove

    def retain_grad(self) -> None:
        """Make backward() set `.grad` of this tensor too, though it is no leaf, to what the hooks leave of it."""
        if self._node is not None:
            self._node.retained = weakref.ref(self)

    def __repr__(self) -> str:
        text = np.array2string(self._data, separator=", ", prefix="tensor(", threshold=100)
        notes = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        return f"tensor({text}{notes}{', requires_grad=True' if self.requires_grad else ''})"

    __hash__ = object.__hash__


def tensor(values: Any, requires_grad: bool = False, dtype: DTypeLike | None = None) -> Tensor:
    """Make a tensor of an array-like.

    A NumPy array is shared, not copied. Python floats become float32.

    Args:
        values: NumPy array, number, nested lists, or Tensor.
        requires_grad: whether gradients are to be found for it.
        dtype: cast to this type (a copy, unless it has it).
    """
    source = values if isinstance(values, Tensor) else None
    if source is not None:
        values = source._data
    given = isinstance(values, (np.ndarray, np.generic))
    array = np.asarray(values, dtype=dtype)
    if array.dtype == object or array.dtype.kind in "USmMV":
        raise checks.bad_type("values", type(values).__name__, f"must hold numbers, not {array.dtype}")
    if not given and dtype is None and array.dtype == np.float64:
        array = array.astype(np.float32)
    out = Tensor(array, requires_grad)
    if source is not None and array is source._data:
        out._version = source._version
    return out
