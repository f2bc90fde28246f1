"""The tape: the walk over recorded operations that turns them into gradients.

Operations number their nodes as they run; walking the nodes reachable from a result in falling
order is reverse-mode differentiation (S. Linnainmaa, 1976). Each node is freed as it is left.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import GraphError
from .node import Edge, Hook, Node

if TYPE_CHECKING:
    from .tensor import Tensor


class Walk:
    """One backward pass from a tensor.

    Attributes:
        nodes: the operations that lead to the tensor, latest first.
        uses: how often each leaf is used by them, less the uses that are done.
        sums: gradients on their way. The flag says whether the array is this walk's own, to add to in place.

    Raises:
        GraphError: an earlier pass freed the graph.
    """

    def __init__(self, root: "Tensor"):
        self.root = root
        self.nodes: list[Node] = []
        self.uses: dict[Tensor, int] = {}
        self.sums: dict[Any, tuple[np.ndarray, bool]] = {}
        if root._node is None:
            self.uses[root] = 1
        else:
            self._reach(root._node)

    def _reach(self, root: Node) -> None:
        seen = {root}
        stack = [root]
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
                    self.uses[edge] = self.uses.get(edge, 0) + 1
                elif edge not in seen:
                    seen.add(edge)
                    stack.append(edge)
        self.nodes = sorted(seen, key=_order, reverse=True)

    def run(self, gradient: np.ndarray, retain_graph: bool) -> None:
        """Add the gradient of the root to every leaf that it depends on; see `Tensor.backward`."""
        if self.root._node is None:
            self._deliver(self.root, gradient, owned=False)
            self._leave(self.root)
            return
        self.sums[self.root._node] = (gradient, False)
        for node in self.nodes:
            self._visit(node)
            if not retain_graph:
                node.free()

    def _visit(self, node: Node) -> None:
        entry = self.sums.pop(node, None)
        if entry is None:
            for edge in node.edges:
                if edge is not None and not isinstance(edge, Node):
                    self._leave(edge)
            return
        dy = _run_hooks(node.hooks, entry[0]) if node.hooks else entry[0]
        if node.retained is not None:
            _retain(node.retained(), dy)
        wanted = tuple([_wanted(edge, node.edges) for edge in node.edges])
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
                    owned = result is want or (node.is_ours and _is_fresh(result, dy, results, function))
                    self._deliver(edge, result, owned)
                self._leave(edge)

    def _add(self, edge: Any, result: np.ndarray) -> None:
        entry = self.sums.get(edge)
        if entry is None:
            self.sums[edge] = (result, False)
        elif entry[1]:
            np.add(entry[0], result, out=entry[0])
        else:
            self.sums[edge] = (np.asarray(entry[0] + result), True)

    def _deliver(self, leaf: "Tensor", result: np.ndarray, owned: bool) -> None:
        """Add one use's gradient to a leaf; `owned`: nobody else holds `result`."""
        if leaf._hooks:
            self._add(leaf, result)
        else:
            _accumulate(leaf, result, owned)

    def _leave(self, leaf: "Tensor") -> None:
        """Count one use of a leaf as done; after the last, its hooks see the sum."""
        self.uses[leaf] -= 1
        if self.uses[leaf] == 0 and leaf in self.sums:
            _accumulate(leaf, _run_hooks(leaf._hooks, self.sums.pop(leaf)[0]), owned=False)


def _order(node: Node) -> int:
    return node.order


def _wanted(edge: Edge, edges: tuple[Edge, ...]) -> Any:
    if edge is None:
        return False
    if isinstance(edge, Node) or edge._buffer is None or edge.grad is not None or edge._hooks:
        return True
    # Used twice by one operation, its second gradient would overwrite the first.
    return edge._buffer if sum(other is edge for other in edges) == 1 else True


def _is_fresh(result: np.ndarray, dy: np.ndarray, results: tuple[Any, ...], function: Any) -> bool:
    """Say whether a gradient was made for its receiver alone: no view, not passed on, not given out twice, not kept."""
    if result is dy or result.base is not None or sum(other is result for other in results) > 1:
        return False
    return not any(cell.cell_contents is result for cell in function.__closure__ or ())


def _accumulate(leaf: "Tensor", gradient: np.ndarray, owned: bool) -> None:
    buffer = leaf._buffer
    if leaf.grad is not None:
        leaf.grad += gradient
    elif buffer is not None:
        if gradient is not buffer:
            buffer[...] = gradient
        leaf.grad = buffer
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
