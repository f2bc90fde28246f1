"""Where the ranks of a node wait for each other: in memory that they share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..core.errors import DistdlError
from ..kernels.barrier import LINE, add_small, barrier
from .patience import PAUSE

_NUMBERS = (1 << 31) - 1
"""Barriers are counted up to here; tags, which MPI holds to as many, take the rest of an int64."""


class Waiting(NamedTuple):
    """What a rank does until the others are here.

    Attributes:
        looks: how many before it leaves the core to others (some tens of nanoseconds each on x86, less elsewhere).
        turns: how often it does, before it returns to Python, which sees to signals.
        rest: what is done there.
    """

    looks: int
    turns: int
    rest: Callable[[], object]


EAGER = Waiting(1 << 9, 1 << 6, lambda: None)
PATIENT = Waiting(1 << 6, 1, lambda: time.sleep(PAUSE))
"""For a thread beside one that computes."""


class SmallRoom(NamedTuple):
    """Room for adding up small arrays, see `kernels.barrier.add_small`."""

    shared: np.ndarray
    spare: np.ndarray
    steps: np.ndarray


class NodeBarrier:
    """The barrier of the ranks of a node around one array that they share.

    Ranks with different tags (from 0 to below 2 ** 31) wait for each other: what does not belong together is never
    combined.

    Args:
        memory: `barrier_bytes` that all ranks see, zeros.
        mine: this rank's number on its node.
        waiting: how to wait.
    """

    def __init__(self, memory: np.ndarray, mine: int, waiting: Waiting):
        self._flags = memory.view(np.int64)
        self._mine = mine
        self._waiting = waiting
        self._count = 0
        self._is_under_way = False

    def wait(self, tag: int) -> None:
        """Wait until all ranks are here with this tag: they see then all that the others have written before."""
        looks, turns, rest = self._waiting
        half, number = self._begin(tag)
        while not barrier(self._flags, self._mine, half, number, looks, turns):
            rest()
        self._is_under_way = False

    def add(self, array: np.ndarray, room: SmallRoom, scale: float, tag: int) -> None:
        """Add up a flat array of floats of all ranks with this tag in place, and multiply the result by `scale`."""
        looks, turns, rest = self._waiting
        half, number = self._begin(tag)
        while not add_small(array, self._flags, self._mine, half, number, looks, turns, *room, float(scale)):
            rest()
        self._is_under_way = False

    def _begin(self, tag: int) -> tuple[int, int]:
        """Return half and number of the next barrier.

        Raises:
            DistdlError: the last one was interrupted.
        """
        if self._is_under_way:
            raise DistdlError(
                "an earlier reduction of this array was interrupted, so the ranks are out of step: "
                "let such an error end the job"
            )
        self._is_under_way = True
        self._count += 1
        return self._count & 1, (self._count & _NUMBERS) << 32 | tag


def barrier_bytes(width: int) -> int:
    """Return how much memory a barrier of so many ranks takes."""
    return width * LINE * np.dtype(np.int64).itemsize
