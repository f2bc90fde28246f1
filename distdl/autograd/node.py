"""`Node`: what a recorded operation leaves behind."""

import inspect
import itertools
import weakref
from collections.abc import Callable, Iterable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, Union, final

import numpy as np

from ..core.errors import GraphError
from ..ops.registry import OPS

if TYPE_CHECKING:
    from .tensor import Tensor

Edge = Union["Node", "Tensor", None]
Hook = Callable[[np.ndarray], np.ndarray | None]

_orders = itertools.count()


@final
class Node:
    """One recorded operation.

    Attributes:
        function: the operation.
        backward: the operation's gradient function; None once freed.
        edges: for each positional argument the node or leaf that its gradient goes to, or None.
        cells: version cells of the tensors whose arrays `backward` may read.
        count: what they added up to when the operation ran; they only grow.
        checksums: under `detect_anomaly`, arrays that `backward` may read with their checksums; else None.
        shape, dtype: of the result, and so of its gradient.
        hooks: functions that see, and may replace, the gradient of the result.
        retained: the result, if `retain_grad` was asked for.
        label: under a timeline, the operation and the module that ran it, by name; else not set.
    """

    __slots__ = (
        "backward",
        "cells",
        "checksums",
        "count",
        "dtype",
        "edges",
        "function",
        "hooks",
        "label",
        "order",
        "retained",
        "shape",
    )
    label: tuple[str, str]

    def __init__(
        self, function: Callable[..., Any], backward: Callable[..., Any], edges: Sequence[Edge], result: np.ndarray
    ):
        if type(backward) is not FunctionType and not callable(backward):
            raise GraphError(
                f"`{function.__name__}` must return its result and a function for its gradient, not {backward!r}"
            )
        self.order = next(_orders)
        self.function = function
        self.backward: Callable[..., Any] | None = backward
        self.edges = edges
        self.cells: Sequence[list[int]] = ()
        self.count = 0
        self.checksums: list[tuple[np.ndarray, int]] | None = None
        self.shape = result.shape
        self.dtype = result.dtype
        self.hooks: list[Hook] | None = None
        self.retained: weakref.ref[Tensor] | None = None

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.function.__name__

    @property
    def is_ours(self) -> bool:
        """Whether arrays that `backward` makes are nobody else's, as operations of `distdl.ops` promise."""
        return OPS.get(self.name) is self.function

    def watch(self, cells: Sequence[list[int]]) -> None:
        """Remember the versions of what `backward` may read."""
        self.cells = cells
        self.count = _total(cells)

    def free(self) -> None:
        """Let go of everything that was kept for the gradient."""
        self.backward = self.hooks = self.retained = self.checksums = None
        self.edges = self.cells = ()

    def check_kept(self) -> None:
        """Raise if `free` was called."""
        if self.backward is None:
            raise GraphError(
                f"backward() reached `{self.name}`, whose graph an earlier backward() has freed; "
                "pass retain_graph=True to the earlier one, or compute the loss again"
            )

    def check_versions(self) -> None:
        """Raise if something that `backward` reads has changed since the operation ran."""
        if self.cells and _total(self.cells) != self.count:
            raise GraphError(
                f"a tensor that the gradient of `{self.name}` needs was changed in place after `{self.name}` "
                f"used it ({_total(self.cells) - self.count} times); change it after backward(), or change a copy"
            )

    def gradients(self, dy: np.ndarray, wanted: tuple[Any, ...], behind: Any = None) -> tuple[Any, ...]:
        """Run the operation's gradient function after checking that nothing it reads has changed.

        Args:
            dy: gradient of the result, or of that of the operation behind, if that one left its own to this one.
            wanted: see `ops/registry.py`.
            behind: what that one left.
        """
        self.check_versions()
        if self.checksums is not None:
            self._check_read(dy)
        backward: Any = self.backward
        if self.function.joins_relu:  # type: ignore[attr-defined]
            results = backward(dy, wanted, behind)
        else:
            if type(backward) is FunctionType and backward.__defaults__ is None:
                takes_wanted = backward.__code__.co_argcount > 1
            else:
                takes_wanted = _takes_wanted(backward)
            results = backward(dy, wanted) if takes_wanted else backward(dy)
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


def _total(cells: Sequence[list[int]]) -> int:
    total = 0
    for cell in cells:
        total += cell[0]
    return total


def _takes_wanted(backward: Any) -> bool:
    """Say whether a gradient function is `backward(dy, wanted)` or `backward(dy)`; defaults do not count."""
    parameters = [
        parameter
        for parameter in inspect.signature(backward).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return len(parameters) > 1 and (parameters[1].default is inspect.Parameter.empty or parameters[1].name == "wanted")
