"""Combining arrays over ranks in one fixed order.

Ranks are the leaves of a binary tree: neighbours are combined first, then pairs of neighbours, and so on.
The order is the same for every element, so results depend neither on the array's length nor on an
element's place in it. Large arrays are halved on the way up (each element is combined on one rank only)
and gathered on the way down; small ones go whole (recursive doubling), with the same result, since
a + b = b + a. (R. Thakur, R. Rabenseifner, W. Gropp, 2005, run from the nearest neighbour on, which is
mostly on the same node and gets the longest messages.)
"""

from typing import Any

import numpy as np

from ..core import memory

SMALL_BYTES = 1 << 15
"""Up to this size arrays go whole: fewer messages, though longer ones."""

BLOCK_BYTES = 1 << 20
"""What arrives is combined in blocks that still lie in the cache then."""

_ALIGNMENT = 16
"""Elements: halves begin on a cache line."""


class Tree:
    """The place of this rank in the tree.

    Ranks beyond a power of two are left out of it: each hands its array to a neighbour, and gets the result.

    Args:
        handle: an mpi4py communicator.
    """

    def __init__(self, handle: Any):
        self._handle = handle
        rank = handle.Get_rank()
        ranks = leaves(handle.Get_size())
        self._width = len(ranks)
        self._leaf = next(leaf for leaf, members in enumerate(ranks) if rank in members)
        self._ranks = [members[0] for members in ranks]
        self._is_paired = len(ranks[self._leaf]) == 2
        self._neighbour = rank ^ 1
        self._is_left_out = self._is_paired and rank % 2 == 1

    def allreduce(self, flat: np.ndarray, combine: np.ufunc, scale: float, tag: int) -> None:
        """Combine a flat array over all ranks in place, and multiply the result by `scale`.

        Only ranks that give the same tag hear each other: what else they call does not mix in.
        """
        if self._is_left_out:
            self._handle.Send(flat, self._neighbour, tag)
            self._handle.Recv(flat, self._neighbour, tag)
            return
        if self._is_paired:
            self._receive(flat, combine, tag)
        if flat.nbytes <= SMALL_BYTES:
            self._double(flat, combine, tag)
            rescale(flat, scale)
        else:
            self._halve(flat, combine, scale, tag)
        if self._is_paired:
            self._handle.Send(flat, self._neighbour, tag)

    def _receive(self, flat: np.ndarray, combine: np.ufunc, tag: int) -> None:
        received = memory.empty(flat.shape, flat.dtype)
        self._handle.Recv(received, self._neighbour, tag)
        combine(flat, received, out=flat)

    def _double(self, flat: np.ndarray, combine: np.ufunc, tag: int) -> None:
        received = memory.empty(flat.shape, flat.dtype)
        distance = 1
        while distance < self._width:
            peer = self._ranks[self._leaf ^ distance]
            self._handle.Sendrecv(flat, peer, tag, received, peer, tag)
            combine(flat, received, out=flat)
            distance *= 2

    def _halve(self, flat: np.ndarray, combine: np.ufunc, scale: float, tag: int) -> None:
        mine = flat
        way: list[tuple[int, np.ndarray, np.ndarray]] = []
        distance = 1
        while distance < self._width:
            middle = mine.size // 2 // _ALIGNMENT * _ALIGNMENT
            halves = mine[:middle], mine[middle:]
            is_upper = bool(self._leaf & distance)
            mine, theirs = halves[is_upper], halves[not is_upper]
            peer = self._ranks[self._leaf ^ distance]
            distance *= 2
            self._exchange(mine, theirs, peer, combine, scale if distance == self._width else 1.0, tag)
            way.append((peer, mine, theirs))
        for peer, mine, theirs in reversed(way):
            self._swap(mine, theirs, peer, tag)

    def _exchange(
        self, mine: np.ndarray, theirs: np.ndarray, peer: int, combine: np.ufunc, scale: float, tag: int
    ) -> None:
        step = BLOCK_BYTES // mine.itemsize
        received = memory.empty((min(step, mine.size),), mine.dtype)
        for start in range(0, max(mine.size, theirs.size), step):
            block = mine[start : start + step]
            arrived = received[: block.size]
            self._handle.Sendrecv(theirs[start : start + step], peer, tag, arrived, peer, tag)
            combine(block, arrived, out=block)
            rescale(block, scale)

    def _swap(self, mine: np.ndarray, theirs: np.ndarray, peer: int, tag: int) -> None:
        step = BLOCK_BYTES // mine.itemsize
        for start in range(0, max(mine.size, theirs.size), step):
            block = slice(start, start + step)
            self._handle.Sendrecv(mine[block], peer, tag, theirs[block], peer, tag)


def leaves(size: int) -> list[tuple[int, ...]]:
    """Return the ranks of each leaf: of so many that are more than a power of two, the first share a leaf in pairs."""
    width = 1 << (size.bit_length() - 1)
    extra = size - width
    return [(2 * leaf, 2 * leaf + 1) if leaf < extra else (leaf + extra,) for leaf in range(width)]


def rescale(array: np.ndarray, scale: float) -> None:
    """Multiply an array in place; by 1 nothing is done."""
    if scale != 1.0:
        np.multiply(array, array.dtype.type(scale), out=array)
