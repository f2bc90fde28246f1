"""One run of mpiexec: what it says is passed on, signals too, and nothing of it stays behind."""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import IO

from ..comm.telling import UNCAUGHT
from ..core.signals import handle
from .processes import MARK, LocalRanks, marked

LOOK_SECONDS = 0.1
KILL_SECONDS = 5.0

_NEWS = re.compile(rb"distdl: (rank \d+ of \d+ on .*)")
_EXCEPTION = re.compile(rb"([A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning)(?::.*)?)$")
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        code: exit code as a shell gives it.
        started: seconds since 1970.
        seconds: how long it ran.
        news: what the rank that ended the job has said, or which ended first; empty where nobody knows.
        is_told: whether a rank has said it, for all to read.
        told: the signal that this process was sent meanwhile, if any.
        last_line: of what it said on standard error.
        is_late: whether it was ended since its time was over.
    """

    code: int
    started: float
    seconds: float
    news: str = ""
    is_told: bool = False
    told: int | None = None
    last_line: str = ""
    is_late: bool = False


class Attempt:
    """Runs mpiexec once.

    Args:
        words: the command.
        family: of the MPI library, see `Mpi`.
        environment: variables beside those of this process.
        end_timeout: seconds that mpiexec is given once a rank has said that the job ends: after a network
            was cut it can wait for ever.
        limit: seconds after which the job is ended.
        output: a file that takes what the job prints; None: that goes where this process prints.
        is_silent: whether what it says on standard error is kept back.
    """

    def __init__(
        self,
        words: Sequence[str],
        family: str,
        environment: Mapping[str, str],
        end_timeout: float,
        limit: float = math.inf,
        output: IO[bytes] | None = None,
        is_silent: bool = False,
    ):
        self._words = list(words)
        self._family = family
        self._mark = secrets.token_hex(8)
        self._environment = {**os.environ, **environment, MARK: self._mark}
        self._end_timeout = end_timeout
        self._limit = limit
        self._output = output
        self._is_silent = is_silent
        self._is_late = False
        self._last_line = b""
        self._ends_at: float | None = None
        self._news = ""
        self._told: int | None = None
        self._job: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def run(self, told: Sequence[int] = ()) -> Outcome:
        """Run to the end, and return how it was. Called on a main thread signals are passed on.

        Args:
            told: signals that came when there was nothing yet to pass them on to.
        """
        started, start = time.time(), time.monotonic()
        # A signal that found no handler while mpiexec starts would end this process, and leave the job behind.
        restore = handle(forwarded(), self._forward)
        try:
            for number in told:
                self._forward(number, None)
            job = self._start()
            assert job.stderr is not None
            relay = threading.Thread(target=self._relay, args=(job.stderr,), daemon=True)
            relay.start()
            with contextlib.closing(LocalRanks(self._mark)) as ranks:
                code = self._wait(job, ranks)
        finally:
            restore()
        if code != 0:
            self._end_strays()
        # A process that was left running may hold the stream.
        relay.join(KILL_SECONDS)
        if not relay.is_alive():
            job.stderr.close()
        return Outcome(
            code,
            started,
            time.monotonic() - start,
            self._news or ranks.first_death,
            bool(self._news),
            self._told,
            self._last_line.decode(errors="replace").strip(),
            self._is_late,
        )

    def _wait(self, job: subprocess.Popen[bytes], ranks: LocalRanks) -> int:
        start = time.monotonic()
        while (code := job.poll()) is None:
            ranks.wait(LOOK_SECONDS)
            if time.monotonic() - start > self._limit and not self._is_late:
                # mpiexec ends its ranks on other hosts, if it is asked.
                self._is_late = True
                self._ends_at = time.monotonic() + KILL_SECONDS
                job.terminate()
            if self._ends_at is not None and time.monotonic() > self._ends_at:
                if not self._is_silent:
                    say(f"mpiexec still runs {self._end_timeout:g} s after the end of the job: killed")
                self._ends_at = None
                job.kill()
        return code if code >= 0 else 128 - code

    def _start(self) -> subprocess.Popen[bytes]:
        job = subprocess.Popen(self._words, env=self._environment, stdout=self._output, stderr=subprocess.PIPE)
        self._job = job
        while self._early:
            job.send_signal(self._early.pop(0))
        return job

    def _forward(self, number: int, frame: FrameType | None) -> None:
        self._told = number
        if number == signal.SIGINT:
            self._end_soon()
            # A terminal sends Ctrl-C to mpiexec itself; a second one would make it abort at once.
            if self._job is not None and sys.stdin is not None and sys.stdin.isatty():
                return
        if number == signal.SIGTERM and self._family == "openmpi":
            # Its mpiexec kills the ranks on SIGTERM; SIGUSR1 it passes on, and means the same to a fit.
            number = signal.SIGUSR1
        if self._job is None:
            self._early.append(number)
        else:
            self._job.send_signal(number)

    def _end_soon(self) -> None:
        if self._ends_at is None:
            self._ends_at = time.monotonic() + self._end_timeout

    def _relay(self, stream: IO[bytes]) -> None:
        """Pass on what the job says on standard error, and keep the bad news."""
        rest = b""
        while chunk := os.read(stream.fileno(), 1 << 16):
            if not self._is_silent:
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.buffer.write(chunk)
                    sys.stderr.flush()
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-(1 << 16) :]
            for line in lines:
                self._hear(line)

    def _hear(self, line: bytes) -> None:
        self._last_line = line if line.strip() else self._last_line
        if not self._news:
            if found := _NEWS.match(line):
                self._news = found[1].decode(errors="replace").rstrip()
                self._end_soon()
        elif self._news.endswith(UNCAUGHT) and (found := _EXCEPTION.match(line)):
            self._news = self._news.removesuffix(UNCAUGHT) + found[1].decode(errors="replace")

    def _end_strays(self) -> None:
        """Kill what is left of the job on this machine."""
        deadline = time.monotonic() + KILL_SECONDS
        while found := marked(self._mark):
            if time.monotonic() > deadline:
                for process in found:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(process, signal.SIGKILL)
                return
            time.sleep(LOOK_SECONDS)


def forwarded() -> list[signal.Signals]:
    """Return the signals that are passed on: all but SIGHUP under nohup, which is to hear nothing of it."""
    return [number for number in _FORWARDED if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


def say(text: str) -> None:
    """Print a line of the launcher's own."""
    print(f"distdl launch: {text}", file=sys.stderr, flush=True)
