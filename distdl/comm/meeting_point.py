"""Where the ranks of a node meet: in memory that they share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..kernels.meeting import PLACES, add_small, meet

_PAUSE = 5e-5
"""Seconds between two looks of a thread beside one that computes."""


_COUNTS = (1 << 31) - 1
"""Meetings are counted up to here, and tags, which MPI holds to as many, take the rest of an int64."""


class Rest(NamedTuple):
    """What a rank does until the others are here.

    Attributes:
        looks: how many before it rests.
        rest: lets others have the core.
    """

    looks: int
    rest: Callable[[], object]


# About thirty microseconds, and three.
EAGER = Rest(1 << 9, os.sched_yield if hasattr(os, "sched_yield") else lambda: time.sleep(0))
PATIENT = Rest(1 << 6, lambda: time.sleep(_PAUSE))


class SmallRoom(NamedTuple):
    """Room for adding up small arrays, see `kernels.meeting.add_small`."""

    shared: np.ndarray
    spare: np.ndarray
    steps: np.ndarray


class MeetingPoint:
    """The place of this rank among those of a node, for one array that they share.

    Ranks whose tags differ wait for each other: what does not belong together is never combined.

    Args:
        memory: bytes that all ranks see, zeros, `room(width)` of them.
        mine: this rank's number on its node.
        rest: how to wait.
    """

    def __init__(self, memory: np.ndarray, mine: int, rest: Rest):
        self._places = memory.view(np.int64)
        self._mine = mine
        self._rest = rest
        self._count = 0

    def meet(self, tag: int) -> None:
        """Wait until all ranks are here with this tag: they see then all that the others have written before."""
        half, number = self._next(tag)
        while not meet(self._places, self._mine, half, number, self._rest.looks):
            self._rest.rest()

    def add(self, array: np.ndarray, room: SmallRoom, scale: float, tag: int) -> None:
        """Add up a small array of all ranks with this tag in place, and multiply the result by `scale`."""
        half, number = self._next(tag)
        while not add_small(array, self._places, self._mine, half, number, self._rest.looks, *room, scale):
            self._rest.rest()

    def _next(self, tag: int) -> tuple[int, int]:
        self._count += 1
        return self._count & 1, (self._count & _COUNTS) << 32 | tag


def room(width: int) -> int:
    """Return how many bytes a meeting point of so many ranks takes."""
    return width * PLACES * np.dtype(np.int64).itemsize
