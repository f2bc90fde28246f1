"""`Node`: what a recorded operation leaves behind."""

import inspect
import itertools
import weakref
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from ..core.errors import GraphError
from ..ops.registry import OPS

if TYPE_CHECKING:
    from .tensor import Tensor

Edge = Union["Node", "Tensor", None]
Hook = Callable[[np.ndarray], np.ndarray | None]

_orders = itertools.count()


class Node:
    """One recorded operation.

    Attributes:
        backward: the operation's gradient function; None once freed.
        edges: for each positional argument the node or leaf that its gradient goes to, or None.
        versions: for each array that `backward` may read, its version cell and the count it had.
        checksums: under `detect_anomaly`, arrays that `backward` may read with their checksums; else None.
        shape, dtype: of the result, and so of its gradient.
        hooks: functions that see, and may replace, the gradient of the result.
        retained: the result, if `retain_grad` was asked for.
        is_ours: whether arrays that `backward` makes are nobody else's, as operations of `distdl.ops` promise.
    """

    __slots__ = (
        "backward",
        "checksums",
        "dtype",
        "edges",
        "hooks",
        "is_ours",
        "name",
        "order",
        "retained",
        "shape",
        "takes_wanted",
        "versions",
    )

    def __init__(
        self, function: Callable[..., Any], backward: Callable[..., Any], edges: tuple[Edge, ...], result: np.ndarray
    ):
        self.order = next(_orders)
        self.name = function.__name__
        self.is_ours = OPS.get(self.name) is function
        self.backward: Callable[..., Any] | None = backward
        self.takes_wanted = _takes_wanted(backward, self.name)
        self.edges = edges
        self.versions: list[tuple[list[int], int]] = []
        self.checksums: list[tuple[np.ndarray, int]] | None = None
        self.shape = result.shape
        self.dtype = result.dtype
        self.hooks: list[Hook] | None = None
        self.retained: weakref.ref[Tensor] | None = None

    def free(self) -> None:
        """Let go of everything that was kept for the gradient."""
        self.backward = self.hooks = self.retained = self.checksums = None
        self.edges = ()
        self.versions = []

    def gradients(self, dy: np.ndarray, wanted: tuple[Any, ...]) -> tuple[Any, ...]:
        """Run the operation's gradient function after checking that nothing it reads has changed."""
        for cell, count in self.versions:
            if cell[0] != count:
                raise GraphError(
                    f"a tensor that the gradient of `{self.name}` needs was changed in place after `{self.name}` "
                    f"used it (version {cell[0]}, expected {count}); change it after backward(), or change a copy"
                )
        if self.checksums is not None:
            self._check_read(dy)
        assert self.backward is not None
        results = self.backward(dy, wanted) if self.takes_wanted else self.backward(dy)
        if not isinstance(results, tuple):
            results = (results,)
        if len(results) != len(wanted):
            raise GraphError(
                f"the gradient function of `{self.name}` returned {len(results)} gradients "
                f"for {len(wanted)} positional arguments"
            )
        if self.checksums is not None and any(result is not None and np.isnan(result).any() for result in results):
            raise GraphError(f"the gradient function of `{self.name}` returned NaN")
        return tuple(results)

    def _check_read(self, dy: np.ndarray) -> None:
        if np.isnan(dy).any():
            raise GraphError(f"the gradient of the result of `{self.name}` has NaN in it")
        for array, digest in self.checksums or ():
            if _checksum(array) != digest:
                raise GraphError(
                    f"an array that the gradient of `{self.name}` needs was written to after `{self.name}` used it"
                )

    def keep_checksums(self, values: Iterable[Any]) -> None:
        """Remember what is in the arrays among `values`, and among tuples in it."""
        self.checksums = [(array, _checksum(array)) for array in _arrays(values)]


def _arrays(values: Iterable[Any]) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for value in values:
        found += [value] if isinstance(value, np.ndarray) else _arrays(value) if isinstance(value, tuple) else []
    return found


def _checksum(array: np.ndarray) -> int:
    return hash(array.tobytes())


def _takes_wanted(backward: Any, name: str) -> bool:
    """Say whether a gradient function is `backward(dy, wanted)` or `backward(dy)`; defaults do not count."""
    if type(backward) is FunctionType and not backward.__defaults__:
        return backward.__code__.co_argcount > 1
    if not callable(backward):
        raise GraphError(f"`{name}` must return its result and a function for its gradient, not {backward!r}")
    parameters = [
        parameter
        for parameter in inspect.signature(backward).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return len(parameters) > 1 and (parameters[1].default is inspect.Parameter.empty or parameters[1].name == "wanted")
