"""A trial of a training script, under `distdl tune`: after some steps it says how fast they were, and ends."""

from __future__ import annotations

import json
import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

from ..core import settings, threads

if TYPE_CHECKING:
    from ..comm import Communicator
    from .plan import Plan

MARK = "distdl-trial "
"""What stands before the answer, a line of JSON, on standard output."""

_FIRST = 3
"""Steps that do not count: they compile, and fill caches."""


class Found(NamedTuple):
    """What a trial has found.

    Attributes:
        ranks, threads: how many ranks, and of what size each.
        rows: that all ranks together work on in a step: by weights of losses, see `Tensor.backward`.
        seconds: of a step, the median of the slowest rank.
        gradient_bytes: that a step reduces.
        overlap, bucket_bytes: see `Plan`.
    """

    ranks: int
    threads: int
    rows: float
    seconds: float
    gradient_bytes: int
    overlap: bool
    bucket_bytes: int

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


class TrialOver(SystemExit):
    """Ends a process well, whatever the script would do next."""


class Trial:
    """Counts the steps of a synchronizer.

    Args:
        comm: the ranks.
        steps: how many count.
    """

    def __init__(self, comm: Communicator, steps: int):
        self._comm = comm
        self._steps = steps
        self._rows = 0.0
        self._count = -_FIRST
        self._seconds: list[float] = []
        self._last = 0.0

    def add(self, weight: float) -> None:
        """Count what a backward pass of this rank has worked on."""
        self._rows += weight

    def stepped(self, plan: Plan, gradient_bytes: int) -> None:
        """Count a step; after the last, say how fast they were, and end the process.

        Args:
            plan: by which gradients are reduced.
            gradient_bytes: of all parameters.

        Raises:
            TrialOver: on all ranks, after the last step.
        """
        now = time.perf_counter()
        if self._count >= 0:
            self._seconds.append(now - self._last)
        else:
            self._rows = 0.0
        self._count += 1
        self._last = now
        if self._count == self._steps:
            rows = self._comm.allreduce(self._rows, label="rows of a trial") / self._steps
            seconds = self._comm.allreduce(statistics.median(self._seconds), "max", label="seconds of a trial")
            if self._comm.rank == 0:
                found = Found(
                    self._comm.size, threads.current(), rows, seconds, gradient_bytes, plan.overlap, plan.bucket_bytes
                )
                print(MARK + json.dumps(found._asdict()), flush=True)
            raise TrialOver(0)


def trial_of(comm: Communicator) -> Trial | None:
    """Return the trial that this training is; None if it is none."""
    steps = settings.trial_steps()
    return None if steps is None else Trial(comm, steps)
