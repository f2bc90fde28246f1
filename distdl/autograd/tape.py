"""The tape: what an operation leaves behind, and the walk that turns it into gradients.

Operations number their nodes as they run; walking the nodes reachable from a result in falling
order is reverse-mode differentiation (S. Linnainmaa, 1976). Each node is freed as it is left.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from ..core.errors import GraphError

if TYPE_CHECKING:
    from .tensor import Tensor

Edge = Union["Node", "Tensor", None]
Hook = Callable[[np.ndarray], np.ndarray | None]

_orders = itertools.count()


class _Mode(threading.local):
    enabled = True
    anomaly = False


_mode = _Mode()


def is_grad_enabled() -> bool:
    """Say whether operations are being recorded in this thread."""
    return _mode.enabled


class _SetMode(ContextDecorator):
    """Sets one switch of this thread's mode within a block, or around a function."""

    switch: str
    value: bool

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(getattr(_mode, self.switch))
        setattr(_mode, self.switch, self.value)

    def __exit__(self, *exception: object) -> None:
        setattr(_mode, self.switch, self._before.pop())


class no_grad(_SetMode):
    """Record nothing within the block (or the decorated function)."""

    switch, value = "enabled", False


class enable_grad(_SetMode):
    """Record again within a block of `no_grad`."""

    switch, value = "enabled", True


class detect_anomaly(_SetMode):
    """Look for corruption, at a price: for debugging.

    Operations recorded within the block keep a checksum of what their gradient reads, so that
    backward finds even changes made behind the tensor's back (`x.numpy()[0] = 5`), and every
    gradient is searched for NaN, so that the operation that made it is named.
    """

    switch, value = "anomaly", True


class Node:
    """One recorded operation.

    Attributes:
        backward: the operation's gradient function; None once freed.
        edges: for each positional argument the node or leaf that its gradient goes to, or None.
        versions: for each array that `backward` may read, its version cell and the count it had.
        shape: shape of the result.
        hooks: functions that see, and may replace, the gradient of the result.
    """

    __slots__ = ("backward", "checksums", "edges", "hooks", "name", "order", "shape", "simple", "versions")

    def __init__(self, name: str, backward: Callable[..., Any], edges: tuple[Edge, ...], shape: tuple[int, ...]):
        self.order = next(_orders)
        self.name = name
        self.backward: Callable[..., Any] | None = backward
        self.edges = edges
        self.versions: list[tuple[list[int], int]] = []
        self.checksums: list[tuple[np.ndarray, int]] | None = None
        self.shape = shape
        self.hooks: list[Hook] | None = None
        self.simple = backward.__code__.co_argcount == 1

    def gradients(self, dy: np.ndarray, wanted: tuple[Any, ...]) -> tuple[Any, ...]:
        """Run the operation's gradient function after checking that nothing it reads has changed."""
        for cell, count in self.versions:
            if cell[0] != count:
                raise GraphError(
                    f"a tensor that the gradient of `{self.name}` needs was changed in place after `{self.name}` "
                    f"used it (version {cell[0]}, expected {count}); change it after backward(), or change a copy"
                )
        if self.checksums is not None:
            self._check(dy)
        assert self.backward is not None
        results = self.backward(dy) if self.simple else self.backward(dy, wanted)
        if not isinstance(results, tuple):
            results = (results,)
        if len(results) != len(wanted):
            raise GraphError(
                f"the gradient function of `{self.name}` returned {len(results)} gradients "
                f"for {len(wanted)} positional arguments"
            )
        return tuple(results)

    def _check(self, dy: np.ndarray) -> None:
        if np.isnan(dy).any():
            raise GraphError(f"the gradient of the result of `{self.name}` has NaN in it")
        assert self.checksums is not None
        for array, digest in self.checksums:
            if checksum(array) != digest:
                raise GraphError(
                    f"an array that the gradient of `{self.name}` needs was written to after `{self.name}` used it"
                )


def checksum(array: np.ndarray) -> int:
    """Hash the bytes of an array."""
    return hash(array.tobytes())


def backward(root: "Tensor", gradient: np.ndarray, retain_graph: bool) -> None:
    """Add the gradient of `root` to every leaf that it depends on; see `Tensor.backward`."""
    if root._node is None:
        walk = _Walk({root: 1})
        walk.deliver(root, gradient, owned=False)
        walk.leave(root)
        return
    nodes, uses = _reachable(root._node)
    walk = _Walk(uses)
    walk.sums[root._node] = (gradient, False)
    for node in nodes:
        walk.visit(node)
        if not retain_graph:
            node.backward = None
            node.edges = ()
            node.versions = []
            node.checksums = None


def leaves(root: "Tensor") -> Iterator["Tensor"]:
    """Yield the leaves that `root` depends on."""
    if root._node is None:
        yield root
    else:
        yield from _reachable(root._node)[1]


def _reachable(root: Node) -> tuple[list[Node], dict["Tensor", int]]:
    """Return the nodes that lead to `root`, latest first, and how often each leaf is used by them."""
    seen = {root}
    stack = [root]
    uses: dict[Tensor, int] = {}
    while stack:
        node = stack.pop()
        if node.backward is None:
            raise GraphError(
                f"backward() reached `{node.name}`, whose graph an earlier backward() has freed; "
                "pass retain_graph=True to the earlier one, or compute the loss again"
            )
        for edge in node.edges:
            if edge is None:
                continue
            if not isinstance(edge, Node):
                uses[edge] = uses.get(edge, 0) + 1
            elif edge not in seen:
                seen.add(edge)
                stack.append(edge)
    return sorted(seen, key=_order, reverse=True), uses


def _order(node: Node) -> int:
    return node.order


class _Walk:
    """The state of one backward pass: sums of gradients on their way, and uses of leaves still to come."""

    def __init__(self, uses: dict["Tensor", int]):
        self.uses = uses
        # The flag says whether the array is this walk's own, to add to in place.
        self.sums: dict[Any, tuple[np.ndarray, bool]] = {}

    def visit(self, node: Node) -> None:
        entry = self.sums.pop(node, None)
        if entry is None:
            for edge in node.edges:
                if edge is not None and not isinstance(edge, Node):
                    self.leave(edge)
            return
        dy = _run_hooks(node.hooks, entry[0]) if node.hooks else entry[0]
        wanted = tuple([self._wanted(edge) for edge in node.edges])
        function = node.backward
        results = node.gradients(dy, wanted)
        for edge, want, result in zip(node.edges, wanted, results, strict=True):
            if edge is None:
                continue
            if result is not None and result is not want:
                result = _conform(result, edge, node.name)
            if isinstance(edge, Node):
                if result is not None:
                    self._add(edge, result)
            else:
                if result is not None:
                    self.deliver(edge, result, owned=result is want or _is_fresh(result, dy, results, function))
                self.leave(edge)

    def _wanted(self, edge: Edge) -> Any:
        if edge is None:
            return False
        if isinstance(edge, Node) or edge.grad is not None or edge._hooks:
            return True
        buffer = edge._buffer
        return True if buffer is None else buffer

    def _add(self, edge: Any, result: np.ndarray) -> None:
        entry = self.sums.get(edge)
        if entry is None:
            self.sums[edge] = (result, False)
        elif entry[1]:
            np.add(entry[0], result, out=entry[0])
        else:
            self.sums[edge] = (np.asarray(entry[0] + result), True)

    def deliver(self, leaf: "Tensor", result: np.ndarray, owned: bool) -> None:
        """Add one use's gradient to a leaf; `owned`: nobody else holds `result`."""
        if leaf._hooks:
            self._add(leaf, result)
        elif leaf.grad is not None:
            leaf.grad += result
        else:
            _store(leaf, result, owned)

    def leave(self, leaf: "Tensor") -> None:
        """Count one use of a leaf as done; after the last, its hooks see the sum."""
        self.uses[leaf] -= 1
        if self.uses[leaf] == 0 and leaf in self.sums:
            total = _run_hooks(leaf._hooks, self.sums.pop(leaf)[0])
            if leaf.grad is not None:
                leaf.grad += total
            else:
                _store(leaf, total, owned=False)


def _is_fresh(result: np.ndarray, dy: np.ndarray, results: tuple[Any, ...], function: Any) -> bool:
    """Say whether a gradient was made for its receiver alone: no view, not passed on, not given out twice, not kept."""
    if result is dy or result.base is not None or sum(other is result for other in results) > 1:
        return False
    return not any(cell.cell_contents is result for cell in function.__closure__ or ())


def _store(leaf: "Tensor", gradient: np.ndarray, owned: bool) -> None:
    buffer = leaf._buffer
    if buffer is not None:
        if gradient is not buffer:
            buffer[...] = gradient
        leaf.grad = buffer
    else:
        leaf.grad = gradient if owned else gradient.copy()


def _run_hooks(hooks: Any, gradient: np.ndarray) -> np.ndarray:
    for hook in list(hooks):
        replaced = hook(gradient)
        if replaced is not None:
            if np.shape(replaced) != gradient.shape:
                raise GraphError(
                    f"a gradient hook returned shape {np.shape(replaced)} for a gradient of shape {gradient.shape}"
                )
            gradient = np.asarray(replaced, gradient.dtype)
    return gradient


def _conform(result: Any, edge: Any, name: str) -> np.ndarray:
    """Return a gradient as an array of its target's shape (and a leaf's dtype), or raise."""
    array: np.ndarray = result if isinstance(result, np.ndarray) else np.asarray(result)
    if array.shape != edge.shape:
        raise GraphError(f"the gradient function of `{name}` returned shape {array.shape} for an input of {edge.shape}")
    if not isinstance(edge, Node) and array.dtype != edge.dtype:
        array = array.astype(edge.dtype)
    return array
