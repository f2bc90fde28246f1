"""What reductions of growing arrays take, alone and beside computation; a part of a profile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .background import Background
from .profile import Reduction

if TYPE_CHECKING:
    from ..comm import Communicator

_SIZES = tuple(1 << shift for shift in (12, 14, 16, 19, 20, 21, 22, 23))
"""Bytes of the arrays that are reduced."""

_REPEATS = 7

_LONG = 0.3
"""Seconds: no array is larger than the first whose reduction takes longer."""

_PAUSE = 0.03
"""Seconds between reductions, as between those of two steps: some networks let the first bytes after a pause pass."""

_LATE = 0.1
"""Seconds that a rank keeps the others waiting, to see what that takes."""


def combine_seconds() -> float:
    """Return the seconds of this core to add a byte of what has arrived, in blocks as reductions take them."""
    mine, arrived = np.zeros(1 << 18, np.float32), np.ones(1 << 18, np.float32)
    return min(_timed(lambda: np.add(mine, arrived, out=mine)) for _ in range(20)) / mine.nbytes


def polling_share(beside: Communicator) -> float:
    """Return the share of a core that the others take while they wait for rank 0."""
    array = beside.zeros(1)
    beside.barrier()
    if beside.rank == 0:
        time.sleep(_LATE)
    start, busy = time.perf_counter(), time.thread_time()
    beside.allreduce(array, label="late")
    share = (time.thread_time() - busy) / (time.perf_counter() - start) if beside.rank else 0.0
    return min(float(beside.allreduce(share, "max")), 1.0)


def measure_reductions(comm: Communicator) -> list[Reduction]:
    """Measure reductions of growing arrays over these ranks; all get the same."""
    beside, background = comm.beside(), Background()
    found: list[Reduction] = []
    for size in _SIZES:
        if found and found[-1].seconds > _LONG:
            break
        alone, other = comm.zeros(size // 4), beside.zeros(size // 4)
        (seconds,) = _quickest(comm, partial(_reduce, comm, alone))
        found.append(Reduction(size, seconds, *_quickest(comm, partial(_reduce_beside, beside, other, background))))
    return found


def _quickest(comm: Communicator, measure: Callable[[], Sequence[float]]) -> list[float]:
    """Return the lower quartile of what the slowest rank measures: what disturbs a reduction makes it longer."""
    times = [comm.allreduce(list(measure()), "max") for _ in range(_REPEATS)]
    return [float(value) for value in np.quantile(times, 0.25, axis=0)]


def _reduce(comm: Communicator, array: np.ndarray) -> tuple[float]:
    """Return the seconds of a reduction."""
    time.sleep(_PAUSE)
    comm.barrier()
    return (_timed(lambda: comm.allreduce(array, label="profile")),)


def _reduce_beside(beside: Communicator, array: np.ndarray, background: Background) -> tuple[float, float]:
    """Return the seconds of a reduction while this thread computes, and those that it takes of the computation."""
    chunk = _Chunk()
    usual = chunk.seconds(_PAUSE)
    beside.barrier()
    ended: list[float] = []
    used: list[float] = []

    def task() -> None:
        busy = time.thread_time()
        try:
            beside.allreduce(array, label="profile")
        finally:
            used.append(time.thread_time() - busy)
            ended.append(time.perf_counter())

    start = time.perf_counter()
    background.start(task)
    done = 0
    while not ended:
        chunk.compute()
        done += 1
    background.wait()
    seconds = ended[0] - start
    # With cores to spare the computation loses nothing, where all are in use it would.
    return seconds, max(used[0], min(seconds - done * usual, seconds))


class _Chunk:
    """A little computation, which lets other threads of Python run."""

    def __init__(self) -> None:
        self._values = np.linspace(0.0, 1.0, 1 << 12)
        self._out = np.empty_like(self._values)

    def compute(self) -> None:
        np.sin(self._values, out=self._out)

    def seconds(self, during: float) -> float:
        """Return the seconds of one, over some seconds of them."""
        done, start = 0, time.perf_counter()
        while not done or time.perf_counter() < start + during:
            self.compute()
            done += 1
        return (time.perf_counter() - start) / done


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
