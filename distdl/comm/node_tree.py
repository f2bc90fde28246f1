"""Combining arrays over ranks, where those of a node share memory: nothing is copied there.

On a node each rank combines its own piece of everybody's arrays, in the order of the tree of ranks (`tree.py`), and
writes the result to everybody's. Between nodes, ranks with the same place on theirs combine their pieces along that
tree in between: all ranks of a node talk, and what crosses the wire does so for the whole node. (Compare S. Jain et
al., "Framework for Scalable Intra-Node Collective Operations using Shared Memory", SC 2018.) Where nodes have not
equally many ranks there are no such pieces: the first rank of each node takes the whole across.

Ranks of a node meet twice, by messages that carry the signature of the call as their tag: before the first, others
may still write to their own arrays; behind the second, nobody touches another's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .nodes import Nodes
from .tree import leaves, rescale

_BLOCK_BYTES = 1 << 18
"""Pieces are combined in blocks that still lie in the cache when they are written to the other ranks' arrays."""

_ALIGNMENT = 64
"""Bytes: pieces begin on a cache line."""

_SENT, _RECEIVED = np.zeros(1, np.uint8), np.empty(1, np.uint8)
"""What ranks send each other when they meet: nothing to speak of."""


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
        number: the same on all ranks, and of no other array of them.

    Args:
        nodes: where the ranks are.
        arrays: those of the ranks of this node, in their order.
        number: see there.
    """

    def __init__(self, nodes: Nodes, arrays: list[np.ndarray], number: int):
        self.number = number
        self._nodes = nodes
        self._is_by_pieces = nodes.is_regular
        width, size, itemsize = len(arrays), arrays[0].size, arrays[0].itemsize
        line = _ALIGNMENT // itemsize
        start, stop = (min(-(-size * i // width // line) * line, size) for i in (nodes.place, nodes.place + 1))
        # Whose array gets what the node has combined.
        target = nodes.place if self._is_by_pieces else 0
        self._steps = _steps(width, target)
        spare = [np.empty(_BLOCK_BYTES // itemsize, arrays[0].dtype) for _ in range(_spare(self._steps, width))]
        self._crossing = arrays[nodes.place][start:stop] if self._is_by_pieces else arrays[0]
        self._blocks = [
            _block([array[at : min(at + _BLOCK_BYTES // itemsize, stop)] for array in arrays], spare, target)
            for at in range(start, stop, _BLOCK_BYTES // itemsize)
        ]

    def allreduce(self, combine: np.ufunc, scale: float, tag: int) -> None:
        """Combine the arrays of all ranks in place, and multiply the result by `scale`; see `Tree.allreduce`."""
        self._meet(tag)
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
        self._meet(tag)

    def _cross(self, combine: np.ufunc, scale: float, tag: int) -> None:
        """Combine what this node has with the other nodes'."""
        if self._is_by_pieces:
            self._nodes.across.allreduce(self._crossing, combine, scale, tag)
            return
        self._meet(tag)
        if self._nodes.place == 0:
            self._nodes.across.allreduce(self._crossing, combine, scale, tag)
        self._meet(tag)

    def _meet(self, tag: int) -> None:
        """Wait until all ranks of the node are here with this tag.

        In turn from and to ranks at distances 1, 2, 4 ... (D. Hensgen, R. Finkel, U. Manber, "Two Algorithms for
        Barrier Synchronization", 1988).
        """
        place, width = self._nodes.place, self._nodes.local.Get_size()
        distance = 1
        while distance < width:
            to, source = (place + distance) % width, (place - distance) % width
            self._nodes.messages.Sendrecv(_SENT, to, tag, _RECEIVED, source, tag)
            distance *= 2


def _block(operands: list[np.ndarray], spare: list[np.ndarray], target: int) -> _Block:
    mine = operands[target]
    others = [array for i, array in enumerate(operands) if i != target]
    return _Block(mine, others, [*operands, *(array[: mine.size] for array in spare)])


def _hand_out(mine: np.ndarray, others: list[np.ndarray]) -> None:
    for other in others:
        np.copyto(other, mine)


def _steps(width: int, target: int) -> list[_Step]:
    """List how the arrays of so many ranks are combined in the order of the tree, the last into the target's."""
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
    if steps:
        steps[-1] = steps[-1]._replace(out=target)
    return steps


def _spare(steps: list[_Step], width: int) -> int:
    """Return how many temporary operands the steps need."""
    return max([0, *(step.out + 1 - width for step in steps)])
