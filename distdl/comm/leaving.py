"""How ranks leave: together, or the job ends.

MPI waits for ever for a rank that has gone. So an uncaught exception and a `sys.exit` with a code
abort the job; and a rank that simply ends tells the others after how many collectives it went.
A rank that has begun more than that waits for it in vain: it names the departed, and aborts.
Ranks that need nobody are waited for, however long they take.

Messages travel over a communicator of their own, read by a thread that looks ten times a second.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Any

import numpy as np

from .mpi import MPICommunicator

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 5.0
"""How long a rank with a traceback waits for the rank that came first to end the job."""

FORWARD_SECONDS = 0.3


class Leaving:
    """Watches over one job.

    Args:
        world: the communicator whose collectives count. Those of its parts do not.
    """

    def __init__(self, world: MPICommunicator):
        from mpi4py import MPI

        self._mpi = MPI
        self.world = world
        self.departed: dict[int, int] = {}
        self._notices = world.handle.Dup()
        self._first = MPI.Win.Allocate(8 if world.rank == 0 else 0, comm=self._notices)
        if world.rank == 0:
            np.asarray(self._first.tomemory()).view(np.int64)[:] = 0
        self._notices.Barrier()
        self._leaving = threading.Event()
        self._can_watch = MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self._watcher = threading.Thread(target=self._watch, name="distdl-leaving", daemon=True)

    def install(self) -> None:
        """Put the hooks in place, and start to watch."""
        sys.excepthook = self._on_exception
        self._exit = sys.exit
        sys.exit = self._on_exit  # type: ignore[assignment]
        # Runs before mpi4py's own, which ends MPI: the last registered is the first called.
        atexit.register(self._on_end)
        if self._can_watch:
            self._watcher.start()

    def _on_exception(self, kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        if self._is_first():
            if issubclass(kind, KeyboardInterrupt):
                text = "interrupted\n"
            else:
                text = "".join(traceback.format_exception(kind, error, where))
            self._say(f"uncaught exception, the job ends:\n{text}")
        self.world.abort(130 if issubclass(kind, KeyboardInterrupt) else 1)

    def _on_exit(self, status: Any = None) -> None:
        code = status if isinstance(status, int) else 0 if status is None else 1
        if code == 0 or threading.current_thread() is not threading.main_thread() or _is_caught():
            self._exit(status)
        text = f": {status}" if isinstance(status, str) else ""
        if self._is_first():
            self._say(f"sys.exit({code}), the job ends{text}")
        self.world.abort(code % 256 or 1)

    def _is_first(self) -> bool:
        """Say whether no other rank has bad news yet; without an answer within a second, say yes."""
        answer = np.ones(1, np.int64)
        done = threading.Event()

        def ask() -> None:
            self._first.Lock(0)
            self._first.Fetch_and_op(np.ones(1, np.int64), answer, 0)
            self._first.Unlock(0)
            done.set()

        if not self._can_watch:
            return True
        threading.Thread(target=ask, daemon=True).start()
        if done.wait(1.0) and answer[0] > 0:
            time.sleep(PATIENCE_SECONDS)
        return True

    def _watch(self) -> None:
        while not self._mpi.Is_finalized() and len(self.departed) < self.world.size - 1:
            with contextlib.suppress(self._mpi.Exception):
                self._look()
            for rank, count in self.departed.items():
                if self.world.collectives > count and not self._leaving.is_set():
                    if self._is_first():
                        self._say(
                            f"rank {rank} has finished, after {count} collectives, but rank {self.world.rank} waits "
                            f"for it in its collective {self.world.collectives}; the job ends"
                        )
                    self.world.abort(1)
            time.sleep(POLL_SECONDS)

    def _look(self) -> None:
        status = self._mpi.Status()
        while self._notices.Iprobe(self._mpi.ANY_SOURCE, 0, status):
            count = np.empty(1, np.int64)
            self._notices.Recv(count, status.Get_source(), 0)
            self.departed[status.Get_source()] = int(count[0])

    def _on_end(self) -> None:
        """Tell the others that this rank is done, and wait until all are."""
        if self._mpi.Is_finalized() or not self._can_watch:
            return
        count = np.array([self.world.collectives], np.int64)
        requests = [self._notices.Isend(count, rank, 0) for rank in range(self.world.size) if rank != self.world.rank]
        self._leaving.set()
        while len(self.departed) < self.world.size - 1:
            time.sleep(0.01)
        self._mpi.Request.Waitall(requests)
        self._first.Free()

    def _say(self, text: str) -> None:
        sys.stdout.flush()
        sys.stderr.write(
            f"distdl: rank {self.world.rank} of {self.world.size} on {os.uname().nodename}: {text.rstrip()}\n"
        )
        sys.stderr.flush()
        # A launcher that is told to end the job may drop what it has not passed on yet.
        time.sleep(FORWARD_SECONDS)


def _is_caught() -> bool:
    """Say whether somebody up the stack means to catch SystemExit: a test runner, for one."""
    return "pytest" in sys.modules
