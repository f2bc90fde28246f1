"""Notice that the job is to end soon: signals of schedulers, and a limit of time.

Slurm sends SIGUSR1 where `--signal` asks for it, and SIGTERM before it kills; Kubernetes and spot machines send
SIGTERM. Any rank may be told. It only takes a note here: all ranks leave after the same step, see `Checkpoints`.
"""

from __future__ import annotations

import atexit
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from types import FrameType

from ..core import checks
from ..core.exit_codes import REQUEUE
from ..core.signals import handle

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preempted(SystemExit):
    """Ends the script on all ranks, after a checkpoint, with the exit code 75: it may be started again, and goes on.

    Attributes:
        step: how many steps had been taken.
        reason: why, such as "SIGUSR1 on rank 3".
    """

    def __init__(self, step: int, reason: str):
        super().__init__(REQUEUE)
        self.step, self.reason = step, reason


class Notice:
    """Hears of the coming end on this rank, between `listen` and `close`.

    Args:
        max_time: seconds (or a `timedelta`) from now on after which the job is to leave; None: no limit.
    """

    def __init__(self, max_time: float | timedelta | None = None):
        seconds = max_time.total_seconds() if isinstance(max_time, timedelta) else max_time
        self.max_time = None if seconds is None else checks.real("max_time", seconds, 0.0)
        self._start = time.monotonic()
        self._signal = ""
        self._restore: Callable[[], None] = lambda: None

    def listen(self) -> None:
        """Take a note of signals from now on, or of one that came after an earlier fit. Only a main thread can."""
        if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
            # The end that it gives notice of is no reason to die with a fit that is over.
            handle([signal.SIGUSR1], _hear_late)
        self._restore = handle(SIGNALS, self._hear)
        if _late:
            self._signal = _late.pop()

    def close(self) -> None:
        """Leave signals to whom they belonged before; SIGUSR1, if to nobody, is kept for the next fit."""
        self._restore()

    @property
    def reason(self) -> str:
        """Why the job is to end soon; empty while it is not."""
        if self._signal or self.max_time is None or time.monotonic() - self._start < self.max_time:
            return self._signal
        return f"max_time of {self.max_time:g} s"

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name


_late: set[str] = set()
"""Names of signals that came after a fit."""


def _hear_late(number: int, frame: FrameType | None) -> None:
    _late.add(signal.Signals(number).name)


@atexit.register
def _ignore_late() -> None:
    # Python puts the default action, which is death, back before the process is gone.
    if signal.getsignal(signal.SIGUSR1) is _hear_late:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
