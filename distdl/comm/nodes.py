"""Which ranks share a node, and the parts that follow from it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from .system import machine, network
from .tree import Tree


class Nodes:
    """The ranks of a communicator, node by node.

    Attributes:
        local: an mpi4py communicator of the ranks on this rank's node.
        place: this rank's among them.
        count: how many nodes there are.
        is_regular: whether each node has equally many ranks, with neighbouring numbers.
        keeps_order: whether combining within nodes first, then between them, is the order of the tree of ranks.
        across: the tree of those ranks that have the same place on their nodes, one for each node.

    Args:
        handle: an mpi4py communicator; all its ranks make this together.
    """

    def __init__(self, handle: Any):
        rank, size = handle.Get_rank(), handle.Get_size()
        names = np.empty(size, np.int64)
        handle.Allgather(np.array([_number()], np.int64), names)
        self.local = handle.Split(int(np.flatnonzero(names == names[rank])[0]), rank)
        self.place = self.local.Get_rank()
        self.count = len(set(names.tolist()))
        width = size // self.count
        blocks = names[: width * self.count].reshape(self.count, width)
        self.is_regular = width * self.count == size and bool((blocks == blocks[:, :1]).all())
        self.keeps_order = self.count == 1 or (self.is_regular and width & (width - 1) == 0)
        self.across = Tree(handle.Split(self.place, rank))

    @property
    def is_shared(self) -> bool:
        """Whether ranks share nodes, equally many of them each."""
        return self.is_regular and self.local.Get_size() > 1


def _number() -> int:
    """Return a number for the machine and the network of this process."""
    words = f"{machine()}\n{network()}".encode()
    return int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "little", signed=True)
