"""`apply`: the way of every operation from arrays to the tape."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import memory, spans
from ..core.errors import GraphError
from . import operators
from .mode import mode
from .node import Edge, Node
from .tensor import Tensor


def apply(function: Callable[..., Any], *args: Any, **options: Any) -> Tensor:
    """Run an operation on tensors, and record it if one of them requires a gradient.

    Args:
        function: an operation as `distdl.ops.registry` describes it.
        args: tensors, or what else the operation takes by position.
        options: passed on.
    """
    # Every operation comes through here: calls and passes over `args` that can be spared are.
    recorder = spans.recorder
    start = 0 if recorder is None else spans.clock()
    tracked = False
    denominator: float | None = None
    arrays: list[Any] = []
    edges: list[Edge] = []
    cells: list[list[int]] = []
    for arg in args:
        edge = None
        if isinstance(arg, Tensor):
            if arg._requires_grad:
                tracked = True
                edge = arg._node or arg
            if arg.denominator is not None:
                same = denominator is None or denominator == arg.denominator
                denominator = arg.denominator if same else float("nan")
            cells.append(arg._version)
            arg = arg._data
        edges.append(edge)
        arrays.append(arg)
    y, backward = _two(function(*arrays, **options), function)
    out = Tensor(y)
    if denominator is not None:
        out.denominator = denominator
    is_view = y.base is not None and memory.is_view(y)
    for array in arrays:
        if array is y or is_view:
            _share_versions(out, args)
            break
    if tracked and mode.enabled and y.dtype.kind == "f":
        out._requires_grad = True
        out._node = node = Node(function, backward, edges, y)
        if function.reads_inputs:  # type: ignore[attr-defined]
            cells.append(out._version)
            node.watch(cells)
        if mode.anomaly:
            _keep_checksums(node, arrays, options, y)
    if recorder is not None:
        _note(recorder, function, options, out, start)
    return out


def _two(result: Any, function: Callable[..., Any]) -> tuple[np.ndarray, Any]:
    """Return what an operation returned, its result as an array and its gradient function, or raise."""
    if type(result) is not tuple or len(result) != 2:
        raise GraphError(f"`{function.__name__}` must return its result and a function for its gradient")
    return result if type(result[0]) is np.ndarray else (np.asarray(result[0]), result[1])


def _keep_checksums(node: Node, arrays: list[Any], options: dict[str, Any], y: np.ndarray) -> None:
    reads_inputs = node.function.reads_inputs  # type: ignore[attr-defined]
    node.keep_checksums((*arrays, *options.values(), y) if reads_inputs else options.values())


def _note(
    recorder: spans.Recorder, function: Callable[..., Any], options: dict[str, Any], out: Tensor, start: int
) -> None:
    endings = "".join(f"+{name}" for name in ("relu", "pool") if options.get(name))
    name = function.__name__ + endings
    recorder.add(name, "forward", start)
    if out._node is not None:
        out._node.label = name, recorder.layer


def _share_versions(out: Tensor, args: tuple[Any, ...]) -> None:
    """Let a view count the in-place changes of the tensor it looks at, and the other way round."""
    data = out._data
    base = data.base
    for arg in args:
        if isinstance(arg, Tensor):
            source = arg._data
            if data is source or (base is not None and (base is source or base is source.base)):
                out._version = arg._version


operators.apply = apply
