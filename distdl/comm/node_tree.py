"""Combining arrays over ranks, where those of a node share memory: nothing is copied there.

On a node each rank combines its own piece of everybody's arrays, in the order of the tree of ranks (`tree.py`), and
writes the result to everybody's. Between nodes, ranks with the same place on theirs combine their pieces along that
tree in between: all ranks of a node talk, and what crosses the wire does so for the whole node. (Compare S. Jain et
al., "Framework for Scalable Intra-Node Collective Operations using Shared Memory", SC 2018.) Where nodes have not
equally many ranks there are no such pieces: the first rank of each node takes the whole across.

Ranks of a node take two barriers in that memory: before the first, others may still write to their own arrays; behind
the second, nobody touches another's. Small arrays are copied to where all see them, and every rank adds up all: one
barrier is enough.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .node_barrier import NodeBarrier, SmallRoom, Waiting, barrier_bytes
from .nodes import Nodes
from .tree import leaves, rescale

_BLOCK_BYTES = 1 << 18
"""Pieces are combined in blocks that still lie in the cache when they are written to the other ranks' arrays."""

_ALIGNMENT = 64
"""Bytes: pieces begin on a cache line."""

_SMALL_BYTES = 1 << 14
"""Arrays of a node's ranks that are no more together are small: each rank then reads them all."""


class _Step(NamedTuple):
    """Combine operands `left` and `right` into `out`: the arrays of the ranks first, then temporary ones."""

    left: int
    right: int
    out: int


class _Block(NamedTuple):
    """A block of a piece: the array there that gets the result, those of the other ranks, all operands of the steps."""

    mine: np.ndarray
    others: list[np.ndarray]
    operands: list[np.ndarray]


class SharedArray:
    """An array of each rank, which the others on its node read and write.

    Attributes:
        mine: this rank's.
        number: the same on all ranks, and of no other array of them.

    Args:
        nodes: where the ranks are.
        parts: memory of the ranks of this node, in their order, zeros, `shared_bytes` of each.
        size, dtype: of each array.
        number: see there.
        waiting: how ranks wait for each other.
    """

    def __init__(
        self, nodes: Nodes, parts: list[np.ndarray], size: int, dtype: np.dtype, number: int, waiting: Waiting
    ):
        self.number = number
        self._nodes = nodes
        self._is_by_pieces = nodes.is_regular
        width, nbytes = len(parts), size * dtype.itemsize
        arrays = [part[:nbytes].view(dtype) for part in parts]
        self.mine: np.ndarray = arrays[nodes.place]
        line = _ALIGNMENT // dtype.itemsize
        start, stop = (min(-(-size * i // width // line) * line, size) for i in (nodes.place, nodes.place + 1))
        # Whose array gets what the node has combined.
        target = nodes.place if self._is_by_pieces else 0
        steps = _steps(width)
        # The first rank's memory behind its array is everybody's; that of others is not used.
        common = parts[0][_lines(nbytes) :]
        self._barrier = NodeBarrier(common[: barrier_bytes(width)], nodes.place, waiting)
        self._small: SmallRoom | None = None
        if _is_small(nodes, size, dtype):
            shared = common[barrier_bytes(width) :][: 2 * width * nbytes].view(dtype).reshape(2, width, size)
            self._small = SmallRoom(shared, np.empty((_spare(steps, width), size), dtype), np.array(steps))
        self._steps = [*steps[:-1], *(step._replace(out=target) for step in steps[-1:])]
        spare = [np.empty(_BLOCK_BYTES // dtype.itemsize, dtype) for _ in range(_spare(self._steps, width))]
        self._crossing = arrays[nodes.place][start:stop] if self._is_by_pieces else arrays[0]
        self._blocks = [
            _block([array[at : min(at + _BLOCK_BYTES // dtype.itemsize, stop)] for array in arrays], spare, target)
            for at in range(start, stop, _BLOCK_BYTES // dtype.itemsize)
        ]

    def allreduce(self, combine: np.ufunc, scale: float, tag: int) -> None:
        """Combine the arrays of all ranks in place, and multiply the result by `scale`; see `Tree.allreduce`."""
        if self._small is not None and combine is np.add:
            self._barrier.add(self.mine, self._small, scale, tag)
            return
        self._barrier.wait(tag)
        for mine, others, operands in self._blocks:
            for left, right, out in self._steps:
                combine(operands[left], operands[right], out=operands[out])
            if self._nodes.count == 1:
                rescale(mine, scale)
                _hand_out(mine, others)
        if self._nodes.count > 1:
            self._cross(combine, scale, tag)
            for mine, others, _ in self._blocks:
                _hand_out(mine, others)
        self._barrier.wait(tag)

    def _cross(self, combine: np.ufunc, scale: float, tag: int) -> None:
        """Combine what this node has with the other nodes'."""
        if self._is_by_pieces:
            self._nodes.across.allreduce(self._crossing, combine, scale, tag)
            return
        self._barrier.wait(tag)
        if self._nodes.place == 0:
            self._nodes.across.allreduce(self._crossing, combine, scale, tag)
        self._barrier.wait(tag)


def shared_bytes(nodes: Nodes, size: int, dtype: np.dtype) -> int:
    """Return how much memory each rank is to share for an array of that size and type."""
    width, nbytes = nodes.local.Get_size(), size * dtype.itemsize
    return _lines(nbytes) + barrier_bytes(width) + (2 * width * nbytes if _is_small(nodes, size, dtype) else 0)


def _is_small(nodes: Nodes, size: int, dtype: np.dtype) -> bool:
    is_small = nodes.local.Get_size() * size * dtype.itemsize <= _SMALL_BYTES
    return nodes.count == 1 and is_small and dtype.kind == "f"


def _lines(nbytes: int) -> int:
    """Return the bytes of the cache lines that so many bytes take."""
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def _block(operands: list[np.ndarray], spare: list[np.ndarray], target: int) -> _Block:
    mine = operands[target]
    others = [array for i, array in enumerate(operands) if i != target]
    return _Block(mine, others, [*operands, *(array[: mine.size] for array in spare)])


def _hand_out(mine: np.ndarray, others: list[np.ndarray]) -> None:
    for other in others:
        np.copyto(other, mine)


def _steps(width: int) -> list[_Step]:
    """List how the arrays of so many ranks are combined in the order of the tree."""
    steps: list[_Step] = []
    places = leaves(width)

    def combine(low: int, high: int, out: int) -> int:
        """Combine leaves from `low` to before `high`, by operands from `out` on; return which one has the result."""
        if high - low > 1:
            middle = (low + high) // 2
            left = combine(low, middle, out)
            pair = left, combine(middle, high, out + 1)
        elif len(places[low]) == 2:
            pair = places[low][0], places[low][1]
        else:
            return places[low][0]
        steps.append(_Step(*pair, out))
        return out

    combine(0, len(places), width)
    return steps


def _spare(steps: list[_Step], width: int) -> int:
    """Return how many temporary operands the steps need."""
    return max([0, *(step.out + 1 - width for step in steps)])
