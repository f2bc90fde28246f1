"""Sums over the shards of a global batch, in one binary tree of shards, whoever holds them.

Shards are the leaves: 0 and 1 are added, 2 and 3, then these pairs, and so on. A rank holds neighbouring
shards, and adds up what is complete. If the number of ranks is a power of two that is one node of the tree each,
and the ranks' own tree (`comm/tree.py`) is the rest of this one. Else a rank may hold several nodes: then each
rank gets a piece of all nodes, adds it up along the tree, and all pieces are gathered.
"""

from typing import TYPE_CHECKING

import numpy as np

from ..core import memory
from ..core.shards import shards_of

if TYPE_CHECKING:
    from ..comm import Communicator

Node = tuple[int, int]
"""Level and number: node (l, i) is the sum of the shards from i * 2**l on, 2**l of them."""


def nodes_of(mine: range) -> list[Node]:
    """Return the greatest nodes of the tree that neighbouring shards make up, from left to right."""
    nodes: list[Node] = []
    for shard in mine:
        node = (0, shard)
        while nodes and _are_siblings(nodes[-1], node):
            nodes.pop()
            node = _parent(node)
        nodes.append(node)
    return nodes


class ShardSums:
    """Adds up one array over all shards.

    Args:
        shards: how many there are.
        comm: the ranks that share them.
    """

    def __init__(self, shards: int, comm: "Communicator"):
        self.comm = comm
        self.mine = shards_of(shards, comm.rank, comm.size)
        self._nodes = [nodes_of(shards_of(shards, rank, comm.size)) for rank in range(comm.size)]
        self._top = (shards.bit_length() - 1, 0)
        self._held: list[tuple[Node, np.ndarray]] = []

    def add(self, shard: int, flat: np.ndarray) -> None:
        """Add what a shard gives; shards come in their order, and the last leaves its sum in `flat`."""
        node, mine = (0, shard), flat
        is_last = shard == self.mine[-1]
        while self._held and _are_siblings(self._held[-1][0], node):
            _, before = self._held.pop()
            mine = np.add(before, mine, out=flat if is_last else before)
            node = _parent(node)
        if mine is flat and not is_last:
            mine = memory.empty(flat.shape, flat.dtype)
            np.copyto(mine, flat)
        self._held.append((node, mine))

    def reduce(self, flat: np.ndarray, scale: float) -> None:
        """Write the sum over all shards, times `scale`, to `flat`, to which all own shards have been added."""
        held = [array for _, array in self._held]
        self._held = []
        if self.comm.size & (self.comm.size - 1) == 0:
            self.comm.allreduce(flat, scale=scale, label="sum over shards")
        else:
            self._reduce_pieces(held, flat, scale)

    def forget(self) -> None:
        """Drop what has been added."""
        self._held = []

    def _reduce_pieces(self, held: list[np.ndarray], flat: np.ndarray, scale: float) -> None:
        size = self.comm.size
        length = -(-flat.size // size)
        sent = np.zeros((size, max(map(len, self._nodes)), length), flat.dtype)
        for i, array in enumerate(held):
            for rank in range(size):
                piece = array[rank * length : (rank + 1) * length]
                sent[rank, i, : piece.size] = piece
        received = self.comm.alltoall(sent)
        known = {node: received[rank, i] for rank, nodes in enumerate(self._nodes) for i, node in enumerate(nodes)}
        total = _add_up(known, self._top) * flat.dtype.type(scale)
        flat[...] = self.comm.allgather(total).reshape(-1)[: flat.size]


def _add_up(known: dict[Node, np.ndarray], node: Node) -> np.ndarray:
    if node in known:
        return known[node]
    level, number = node
    left, right = (_add_up(known, (level - 1, 2 * number + i)) for i in (0, 1))
    return np.asarray(left + right)


def _are_siblings(left: Node, right: Node) -> bool:
    return left[0] == right[0] and right[1] % 2 == 1 and left[1] == right[1] - 1


def _parent(node: Node) -> Node:
    return node[0] + 1, node[1] // 2
