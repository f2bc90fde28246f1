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

_SECONDS = 0.01
"""How long each side of a comparison runs."""

_REPEATS = 5


class Costs(NamedTuple):
    """What was measured; times are those of the slowest rank, and the least of some.

    Attributes:
        latency: seconds of a reduction of a few bytes.
        seconds_per_byte: of a large one.
        hidden: share of a reduction's time that vanishes when ranks compute meanwhile: near 1 where cores
            or the network have nothing else to do, near 0 where communication takes turns with computation.
    """

    latency: float
    seconds_per_byte: float
    hidden: float


def measure(comm: Communicator) -> Costs:
    """Measure for a fifth of a second or so; all ranks get the same."""
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

    background = Background()

    def both() -> None:
        background.start(reduce)
        compute()
        background.wait()

    alone, computing, together = (_slowest(comm, work, _REPEATS) for work in (reduce, compute, both))
    hidden = min(max((alone + computing - together) / alone, 0.0), 1.0)
    return Costs(latency, each / _LARGE, hidden)


def _slowest(comm: Communicator, work: Callable[[], object], repeats: int) -> float:
    """Return the least of some times of the slowest rank, in seconds."""
    least = float("inf")
    for _ in range(repeats):
        comm.barrier()
        start = time.perf_counter()
        work()
        least = min(least, comm.allreduce(time.perf_counter() - start, "max"))
    return float(least)
