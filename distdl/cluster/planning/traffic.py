"""What a reduction sends: how many messages, how many bytes, and how many are added, as distdl does it.

Counted from the algorithms in `comm/tree.py` and `comm/node_tree.py`: recursive doubling for short arrays, recursive
halving and doubling for long ones (R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication
Operations in MPICH", 2005, doi:10.1177/1094342005051521; the cost of an algorithm is messages x latency + bytes x time
of a byte + bytes added x time to add one), and pieces in shared memory on each node.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ...comm.tree import BLOCK_BYTES, SMALL_BYTES


class Traffic(NamedTuple):
    """Of one rank, on the longest way.

    Attributes:
        messages: one after another.
        sent: bytes, each way.
        added: bytes that are added up.
    """

    messages: float
    sent: float
    added: float

    def plus(self, other: Traffic) -> Traffic:
        """Return what both take, one after the other."""
        return Traffic(self.messages + other.messages, self.sent + other.sent, self.added + other.added)


NOTHING = Traffic(0.0, 0.0, 0.0)


def across(nbytes: float, ranks: int) -> Traffic:
    """Return what the tree of ranks takes for an array of so many bytes on each.

    Ranks beyond a power of two hand theirs to a neighbour, and get the result.
    """
    return sum_of(steps(nbytes, ranks))


def steps(nbytes: float, ranks: int) -> list[tuple[int, Traffic]]:
    """Return the same step by step: (distance between those who talk, traffic)."""
    if ranks < 2:
        return []
    width = 1 << (ranks.bit_length() - 1)
    levels = width.bit_length() - 1
    found = []
    if ranks > width:
        # To the neighbour, who adds it, and back.
        found += [(1, Traffic(1, nbytes, nbytes)), (1, Traffic(1, nbytes, 0))]
    # Pairs of neighbours are one leaf each: their distances double.
    apart = 2 if ranks > width else 1
    for level in range(levels):
        distance = apart << level
        if nbytes <= SMALL_BYTES:
            found.append((distance, Traffic(1, nbytes, nbytes)))
        else:
            half = nbytes / (2 << level)
            blocks = math.ceil(half / BLOCK_BYTES)
            found += [(distance, Traffic(blocks, half, half)), (distance, Traffic(blocks, half, 0))]
    return found


def sum_of(parts: list[tuple[int, Traffic]]) -> Traffic:
    """Return what steps take one after another."""
    total = NOTHING
    for _, part in parts:
        total = total.plus(part)
    return total


def barriers(ranks: int) -> int:
    """Return how many barriers ranks of a node take, in memory that they share."""
    return 2 if ranks > 1 else 0
