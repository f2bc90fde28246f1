"""The processes of a job on this machine, known by a mark in their environment; nothing where /proc does not tell."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from pathlib import Path

MARK = "DISTDL_LAUNCH_ID"
"""The environment variable that holds the mark."""

LOOK_SECONDS, SEARCH_SECONDS = 0.5, 30.0
"""New ranks are looked for so often, and so long: they start early."""

_RANKS = (b"PMI_RANK", b"OMPI_COMM_WORLD_RANK")


def marked(mark: str) -> dict[int, dict[bytes, bytes]]:
    """Return the processes with that mark, and their environments."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            words = (word.partition(b"=") for word in path.read_bytes().split(b"\0"))
            environment = {name: value for name, _, value in words}
            if environment.get(MARK.encode()) == mark.encode():
                found[int(path.parent.name)] = environment
    return found


class LocalRanks:
    """Watches which rank of this machine ends first.

    When a rank is killed its launcher kills the others, often before they can say which it was.

    Args:
        mark: of the job.
    """

    def __init__(self, mark: str):
        self.first_death = ""
        self._mark = mark
        self._start = self._looked = time.monotonic()
        self._poll = select.poll()
        self._processes: dict[str, int] = {}
        self._ranks: dict[int, str] = {}

    def wait(self, seconds: float) -> None:
        """Wait for so long, or until the first ranks end."""
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS and now - self._start < SEARCH_SECONDS:
            self._looked = now
            self._look()
        ended = self._poll.poll(1000 * seconds)
        if ended and not self.first_death:
            ranks = sorted(self._ranks[descriptor] for descriptor, _ in ended)
            host = socket.gethostname()
            names = " and ".join(f"{rank} ({host}, process {self._processes[rank]})" for rank in ranks)
            self.first_death = f"{names} {'has' if len(ranks) == 1 else 'have'} died"
        for descriptor, _ in ended:
            self._poll.unregister(descriptor)

    def close(self) -> None:
        """Watch no more."""
        for descriptor in self._ranks:
            os.close(descriptor)

    def _look(self) -> None:
        for process, environment in sorted(marked(self._mark).items()):
            rank = next((f"rank {environment[name].decode()}" for name in _RANKS if name in environment), "")
            # What a rank starts has its environment, too.
            if rank and rank not in self._processes and hasattr(os, "pidfd_open"):
                with contextlib.suppress(OSError):
                    descriptor = os.pidfd_open(process)
                    self._poll.register(descriptor, select.POLLIN)
                    self._ranks[descriptor] = rank
                    self._processes[rank] = process
