"""Which rank is slow: time that ranks compute, told apart from time that they wait for each other."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from .synchronizer import GradientSynchronizer


class Shares(NamedTuple):
    """How evenly the ranks have worked.

    Attributes:
        slowest: the rank that has computed longest.
        excess: how much longer than the median rank (of an even number the faster one in the middle), 0.5 for half as
            long again. What is no collective counts as computing.
        waiting: share of the time that ranks have spent in reductions and other collectives, their mean.
    """

    slowest: int
    excess: float
    waiting: float

    def __str__(self) -> str:
        return (
            f"rank {self.slowest} computes {self.excess:.0%} longer than the median rank; ranks spend "
            f"{self.waiting:.0%} of the time in collectives"
        )


class Balance:
    """Measures from its beginning, or the last `measure`, to the next.

    Args:
        synchronizer: of the ranks' gradients.
    """

    def __init__(self, synchronizer: GradientSynchronizer) -> None:
        self._synchronizer = synchronizer
        self._before = self._now()

    def measure(self) -> Shares:
        """Compare the ranks; a small collective, which all must call."""
        now = self._now()
        elapsed, waited = now[0] - self._before[0], now[1] - self._before[1]
        times = self._synchronizer.comm.allgather(np.array([max(elapsed - waited, 0.0), waited]))
        self._before = self._now()
        slowest = int(times[:, 0].argmax())
        median = float(np.sort(times[:, 0])[(len(times) - 1) // 2])
        excess = float(times[slowest, 0]) / median - 1 if median > 0 else 0.0
        return Shares(slowest, excess, float((times[:, 1] / np.maximum(times.sum(axis=1), 1e-9)).mean()))

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), self._synchronizer.comm.seconds + self._synchronizer.seconds_waited
