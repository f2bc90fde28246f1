"""What a reduction costs on these ranks, and whether it can hide behind computation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .background import Background

if TYPE_CHECKING:
    from ..comm import Communicator

_SMALL = 1 << 12
_LARGE = 1 << 22
"""Bytes of the arrays that are reduced."""

_QUICK = 1 << 20
"""Bytes of a reduction that is worth its time at every start, and more than a network lets pass in a burst."""

_UNLIKE = 3.0
"""By this factor another time means another network: noise is less, and the rates of networks differ by more."""

_SECONDS = 0.01
"""How long each side of a comparison runs."""

_REPEATS = 5

_TRIES = 3
"""So often it is seen what vanishes: other work of the machine may keep it from doing so for a while."""


class Costs(NamedTuple):
    """What was measured; times are those of the slowest rank, and the least of some.

    Attributes:
        latency: seconds of a reduction of a few bytes.
        seconds_per_byte: of a large one.
        hidden: share of the shorter of reduction and computation that vanishes beside the other: near 1 where cores
            or the network have nothing else to do, near 0 where communication takes turns with computation.
    """

    latency: float
    seconds_per_byte: float
    hidden: float


def measure(comm: Communicator) -> Costs:
    """Measure for half a second, or a second or two on slow networks; all ranks get the same."""
    small, large = comm.zeros(_SMALL // 4), comm.zeros(_LARGE // 4)
    latency = _slowest(comm, lambda: comm.allreduce(small), 4 * _REPEATS)
    each = _slowest(comm, lambda: comm.allreduce(large), _REPEATS)
    count = max(1, round(_SECONDS / each))

    def reduce() -> None:
        for _ in range(count):
            comm.allreduce(large)

    values = np.linspace(0.0, 1.0, 1 << 13)
    chunk = _slowest(comm, lambda: np.sin(values), _REPEATS)
    chunks = max(1, round(_SECONDS / chunk))

    def compute() -> None:
        for _ in range(chunks):
            np.sin(values)

    background, beside = Background(), comm.beside()
    other = beside.zeros(_LARGE // 4)

    def reduce_beside() -> None:
        for _ in range(count):
            beside.allreduce(other)

    def both() -> None:
        background.start(reduce_beside)
        compute()
        background.wait()

    hidden = max(_hidden(*(_slowest(comm, work, _REPEATS) for work in (reduce, compute, both))) for _ in range(_TRIES))
    return Costs(latency, each / _LARGE, hidden)


def _hidden(alone: float, computing: float, together: float) -> float:
    """Return which share of what can vanish does: on a slow network a reduction takes longer than the computation."""
    return min(max((alone + computing - together) / min(alone, computing), 0.0), 1.0)


def still_hold(comm: Communicator, costs: Costs) -> bool:
    """Say, on all ranks alike, whether a reduction takes about as long as these costs have it."""
    array = comm.zeros(_QUICK // 4)
    seconds = _slowest(comm, lambda: comm.allreduce(array), 3)
    return _is_near(seconds, _expected(costs))


def are_alike(costs: Costs, others: Costs) -> bool:
    """Say whether a reduction takes about as long by these costs as by others."""
    return _is_near(_expected(costs), _expected(others))


def _expected(costs: Costs) -> float:
    return costs.latency + _QUICK * costs.seconds_per_byte


def _is_near(seconds: float, others: float) -> bool:
    return others / _UNLIKE < seconds < others * _UNLIKE


def _slowest(comm: Communicator, work: Callable[[], object], repeats: int) -> float:
    """Return the least of some times of the slowest rank, in seconds."""
    least = float("inf")
    for _ in range(repeats):
        comm.barrier()
        start = time.perf_counter()
        work()
        least = min(least, comm.allreduce(time.perf_counter() - start, "max"))
    return float(least)
