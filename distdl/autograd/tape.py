"""The tape: the walk over recorded operations that turns them into gradients.

Operations number their nodes as they run; walking the nodes reachable from a result in falling
order is reverse-mode differentiation (S. Linnainmaa, 1976). Each node is freed as it is left.
"""

import contextlib
import sys
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import memory, spans
from ..core.errors import GraphError
from ..core.threads import sums_are_fixed
from ..ops.activation import relu
from ..ops.arithmetic import add_to
from ..ops.early import listening
from ..ops.norm import batch_norm
from ..ops.registry import LATER, Onto
from .node import Edge, Hook, Node
from .owner import GradientOwner

if TYPE_CHECKING:
    from .tensor import Tensor


class Walk:
    """One backward pass from a tensor.

    Attributes:
        nodes: the operations that lead to the tensor, latest first.
        uses: how often each leaf is used by them; for leaves with hooks, less the uses that are done.
        sums: gradients on their way.
        behind: for an operation, what the one that alone took its result left to it: see `ops/registry.py`; `sums` has
            the gradient of that one's result then.
        shared: operations whose result several others took.
        hooked: leaves whose hooks wait for the sum over all uses.
        last: for operations after which gradients of watched leaves are final, those leaves.
        node: the operation that is being visited.
        early: watched leaves whose gradients were final before their operation was done.

    Raises:
        GraphError: an earlier pass freed the graph.
    """

    def __init__(self, root: "Tensor"):
        self.root = root
        self.nodes: list[Node] = []
        self.uses: dict[Tensor, int] = {}
        self.sums: dict[Any, np.ndarray] = {}
        self.behind: dict[Node, Any] = {}
        self.shared: set[Node] = {root._node} if root._node is not None else set()
        if root._node is None:
            self.uses[root] = 1
        else:
            self._reach(root._node)
        self.hooked = {leaf for leaf in self.uses if leaf._hooks}
        self.last: dict[Node, list[Any]] = {}
        self.early: set[Any] = set()
        self.node: Any = None

    def _reach(self, root: Node) -> None:
        nodes, uses = self.nodes, self.uses
        seen = {root}
        stack = [root]
        while stack:
            node = stack.pop()
            node.check_kept()
            nodes.append(node)
            for edge in node.edges:
                if type(edge) is Node:
                    if edge in seen:
                        self.shared.add(edge)
                    else:
                        seen.add(edge)
                        stack.append(edge)
                elif edge is not None:
                    uses[edge] = uses.get(edge, 0) + 1
        nodes.sort(key=attrgetter("order"), reverse=True)

    def watch(self, owners: Sequence[GradientOwner]) -> None:
        """Tell these owners, while the walk runs, which of their gradients are final."""
        if not owners or not self.nodes:
            return
        last: dict[Any, Node] = {}
        for node in self.nodes:
            for edge in node.edges:
                if edge is not None and type(edge) is not Node and edge._owner in owners:
                    last[edge] = node
        for leaf, node in last.items():
            self.last.setdefault(node, []).append(leaf)
        for owner in owners:
            owner.expect([leaf for leaf in last if leaf._owner is owner])

    def run(self, gradient: np.ndarray, retain_graph: bool) -> None:
        """Add the gradient of the root to every leaf that it depends on; see `Tensor.backward`."""
        if self.root._node is None:
            self._deliver(self.root, gradient, owned=False)
            return
        self.sums[self.root._node] = gradient
        with listening(self._hear) if self.last else contextlib.nullcontext():
            self._visit_all(retain_graph)

    def _visit_all(self, retain_graph: bool) -> None:
        sums = self.sums
        recorder, last = spans.recorder, self.last
        for node in self.nodes:
            self.node = node
            dy = sums.pop(node, None)
            start = 0 if recorder is None else spans.clock()
            if dy is not None:
                self._visit(node, dy)
            elif self.hooked:
                self._pass_by(node)
            if not retain_graph:
                node.free()
            if recorder is not None:
                name, layer = getattr(node, "label", (node.name, ""))
                recorder.add(name, "backward", start, layer)
            if last and node in last:
                for leaf in last[node]:
                    if leaf not in self.early:
                        leaf._owner.written(leaf)

    def _hear(self, gradient: np.ndarray) -> None:
        for leaf in self.last.get(self.node, ()):
            if leaf._buffer is gradient:
                leaf.grad = gradient
                self.early.add(leaf)
                leaf._owner.written(leaf)

    def _visit(self, node: Node, dy: np.ndarray) -> None:
        if node.hooks:
            dy = _run_hooks(node.hooks, dy)
        # A hook may have walked, and so freed, the graph.
        node.check_kept()
        if node.retained is not None:
            _retain(node.retained(), dy)
        edges, sums, function = node.edges, self.sums, node.backward
        before: Any = edges[0]
        leaves = node.checksums is None and self._leaves_to(before)
        if leaves and node.function is relu and before.function.joins_relu:
            node.check_versions()
            self.behind[before], sums[before] = function.mask, dy  # type: ignore[union-attr]
            return
        wanted: list[Any] = []
        for edge in edges:
            if edge is None:
                wanted.append(False)
            else:
                wanted.append(type(edge) is Node or edge._buffer is None or self._wanted(edge, edges))
        if type(before) is Node and before in sums and node.function.adds:  # type: ignore[attr-defined]
            wanted[0] = self._onto(before)
        if leaves and node.function is batch_norm and before.function.joins_norm:
            wanted[0] = LATER
        results = node.gradients(dy, tuple(wanted), self.behind.pop(node, None))
        for edge, want, result in zip(edges, wanted, results):  # noqa: B905 - `gradients` has compared the lengths
            if edge is None or result is None or edge in self.early:
                if edge in self.hooked:
                    self._leave(edge)
                continue
            if want is LATER:
                self.behind[before], sums[before] = result, result.dy
                continue
            if result is not want and (
                type(result) is not np.ndarray or result.dtype is not edge.dtype or result.shape != edge.shape
            ):
                result = _conform(result, edge, node.name)
            if type(edge) is not Node:
                owned = result is want or (
                    edge.grad is None and node.is_ours and _is_fresh(result, dy, results, function)
                )
                self._deliver(edge, result, owned)
            elif edge in sums:
                if type(want) is not Onto:
                    self._add(edge, result)
                elif result is not want.sums:
                    add_to(want.sums, result, want.sums)
            else:
                sums[edge] = result

    def _leaves_to(self, edge: Any) -> bool:
        """Say whether an operation may leave its gradient to the one before it: nobody else sees what is between."""
        return (
            type(edge) is Node
            and edge not in self.shared
            and (edge.hooks, edge.retained, edge.checksums) == (None, None, None)
        )

    def _wanted(self, leaf: Any, edges: Sequence[Edge]) -> Any:
        """Return the buffer of a leaf if its gradient may be written there, else True."""
        if leaf.grad is not None or leaf in self.hooked:
            return True
        # Used twice by one operation, its second gradient would overwrite the first.
        return leaf._buffer if sum([other is leaf for other in edges]) == 1 else True

    def _onto(self, edge: Node) -> Any:
        """Return how the gradient of a result that others took, too, may be added to theirs.

        Piece by piece it rounds otherwise than as a whole: where bits must not depend on who holds what, it is not.
        """
        before = self.sums[edge]
        holders = sys.getrefcount(before)
        may = _is_free(before, holders) and before.flags.c_contiguous and not sums_are_fixed()
        return Onto(before) if may else True

    def _add(self, edge: Any, result: np.ndarray) -> None:
        before = self.sums.get(edge)
        holders = sys.getrefcount(before)
        if before is None:
            self.sums[edge] = result
        elif _is_free(before, holders):
            add_to(before, result, before)
        else:
            self.sums[edge] = add_to(before, result, memory.empty(before.shape, before.dtype))

    def _deliver(self, leaf: Any, result: np.ndarray, owned: bool) -> None:
        """Add one use's gradient to a leaf; `owned`: nobody else holds `result`."""
        if leaf in self.hooked:
            self._add(leaf, result)
            self._leave(leaf)
        else:
            _accumulate(leaf, result, owned)

    def _pass_by(self, node: Node) -> None:
        for edge in node.edges:
            if edge in self.hooked:
                self._leave(edge)

    def _leave(self, leaf: Any) -> None:
        """Count one use of a leaf with hooks as done; after the last, its hooks see the sum."""
        self.uses[leaf] -= 1
        if self.uses[leaf] == 0 and leaf in self.sums:
            _accumulate(leaf, _run_hooks(leaf._hooks, self.sums.pop(leaf)), owned=False)


def _held_by_sums() -> int:
    sums = {0: np.zeros(0)}
    before = sums.get(0)
    return sys.getrefcount(before)


_HELD_BY_SUMS = _held_by_sums()
"""What `sys.getrefcount` says of an array that `Walk.sums` and one local name hold; versions of Python differ."""


def _is_free(before: np.ndarray, holders: int) -> bool:
    """Say whether nobody but `Walk.sums` and one local name holds an array, no view either, and it may be written.

    holders: what `sys.getrefcount` said of it; a call adds to that.
    """
    return holders == _HELD_BY_SUMS and not memory.is_view(before) and before.flags.writeable


def _is_fresh(result: np.ndarray, dy: np.ndarray, results: tuple[Any, ...], function: Any) -> bool:
    """Say whether a gradient was made for its receiver alone: no view, not passed on, not given out twice, not kept."""
    if result is dy or memory.is_view(result) or sum([other is result for other in results]) > 1:
        return False
    return all(cell.cell_contents is not result for cell in function.__closure__ or ())


def _accumulate(leaf: Any, gradient: np.ndarray, owned: bool) -> None:
    buffer = leaf._buffer
    if leaf.grad is not None:
        leaf.grad += gradient
    elif buffer is not None:
        if gradient is not buffer:
            buffer[...] = gradient
        leaf.grad = buffer
        if leaf._spare and leaf._owner is None:
            leaf._buffer, leaf._spare = None, False
    else:
        leaf.grad = gradient if owned else gradient.copy()


def _retain(tensor: "Tensor | None", gradient: np.ndarray) -> None:
    if tensor is not None:
        tensor.grad = gradient.copy() if tensor.grad is None else tensor.grad + gradient


def _run_hooks(hooks: list[Hook] | None, gradient: np.ndarray) -> np.ndarray:
    for hook in list(hooks or ()):
        # Read-only: other receivers, and the caller of backward(), may hold the same array.
        view = gradient.view()
        view.flags.writeable = False
        replaced = hook(view)
        if replaced is None:
            continue
        if np.shape(replaced) != gradient.shape:
            raise GraphError(
                f"a gradient hook returned shape {np.shape(replaced)} for a gradient of shape {gradient.shape}"
            )
        gradient = np.asarray(replaced, gradient.dtype)
    return gradient


def _conform(result: Any, edge: Any, name: str) -> np.ndarray:
    """Return a gradient as an array of its target's shape and dtype, or raise."""
    array = np.asarray(result)
    if array.shape != edge.shape:
        raise GraphError(f"the gradient function of `{name}` returned shape {array.shape} for an input of {edge.shape}")
    return array if array.dtype == edge.dtype else array.astype(edge.dtype)
