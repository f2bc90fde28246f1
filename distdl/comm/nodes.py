"""Which ranks share a node, and the parts that follow from it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
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
        is_shared: whether any ranks share a node.
        across: the tree of those ranks that have the same place on their nodes, one for each node. Where nodes are not
            regular it is there for the first ranks of nodes only.

    Args:
        handle: an mpi4py communicator; all its ranks make this together.
        talker: gives what sends and receives between nodes for a communicator.
    """

    def __init__(self, handle: Any, talker: Callable[[Any], Any] = lambda handle: handle):
        rank, size = handle.Get_rank(), handle.Get_size()
        names = np.empty(size, np.int64)
        handle.Allgather(np.array([node_number()], np.int64), names)
        self.local = handle.Split(int(np.flatnonzero(names == names[rank])[0]), rank)
        self.place = self.local.Get_rank()
        self.count = len(set(names.tolist()))
        width = size // self.count
        blocks = names[: width * self.count].reshape(self.count, width)
        self.is_regular = width * self.count == size and bool((blocks == blocks[:, :1]).all())
        self.keeps_order = self.count == 1 or (self.is_regular and width & (width - 1) == 0)
        self.is_shared = self.count < size
        self.across = Tree(talker(handle.Split(self.place if self.is_regular else min(self.place, 1), rank)))


def node_number() -> int:
    """Return a number for the machine and the network of this process: that of its node."""
    words = f"{machine()}\n{network()}".encode()
    return int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "little", signed=True)
