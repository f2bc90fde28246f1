"""Where Python tells that a process ends, and what is done there: `sys.excepthook`, `sys.exit`, `atexit`."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import sys
import threading
import traceback
from types import TracebackType
from typing import Any, NoReturn

from ..core.exit_codes import INTERRUPTED
from .leaving import Leaving
from .telling import UNCAUGHT


class Hooks:
    """Ends the job when this rank ends badly, and lets it leave when it ends well.

    Processes that this one forks inherit the hooks, but are no ranks: nothing is done there.
    """

    def __init__(self, leaving: Leaving) -> None:
        self._leaving = leaving
        self._process = os.getpid()
        self._previous_hook = sys.excepthook
        self._previous_exit = sys.exit

    def install(self) -> None:
        """Put the hooks in place."""
        sys.excepthook = self.on_exception
        # A failed test session ends with a code too, but each rank has results of its own to tell.
        if "pytest" not in sys.modules:
            sys.exit = self.exit
        # Runs before mpi4py's own, which ends MPI: the last registered is the first called.
        atexit.register(self.on_end)
        # A crash in compiled code shows no line otherwise. Standard error may be no file.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            if not faulthandler.is_enabled():
                faulthandler.enable(all_threads=False)

    def on_exception(self, kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        """Show the traceback, if this is the first rank with one, and end the job."""
        if os.getpid() != self._process:
            self._previous_hook(kind, error, where)
        elif issubclass(kind, KeyboardInterrupt):
            self._leaving.end(INTERRUPTED, "interrupted")
        else:
            text = "".join(traceback.format_exception(kind, error, where))
            is_from_mpi = kind.__module__.partition(".")[0] == "mpi4py"
            self._leaving.end(1, f"{UNCAUGHT}\n{text}", is_from_mpi=is_from_mpi)

    def exit(self, status: Any = None) -> NoReturn:
        """Stand in for `sys.exit`."""
        if status is None or status == 0 or not self._is_rank():
            self._previous_exit(status)
        raise _RankExit(self, status)

    def on_exit(self, status: Any) -> None:
        """End the job with the code of a `sys.exit` that nobody has caught."""
        if isinstance(status, int):
            self._leaving.end(status % 256 or 1, f"sys.exit({int(status)}), the job ends")
        else:
            self._leaving.end(1, f"sys.exit, the job ends: {status}")

    def on_end(self) -> None:
        """Leave, when the interpreter ends."""
        if os.getpid() == self._process:
            try:
                self._leaving.leave()
            except KeyboardInterrupt:
                self._leaving.end(INTERRUPTED, "interrupted")

    def _is_rank(self) -> bool:
        # A thread that exits ends nothing but itself.
        return os.getpid() == self._process and threading.current_thread() is threading.main_thread()


class _RankExit(SystemExit):
    """A `SystemExit` that notices when nobody catches it.

    The interpreter then asks for the exit code, and no Python code is left that could be asking.
    """

    def __init__(self, hooks: Hooks, status: Any) -> None:
        super().__init__(status)
        self._hooks = hooks
        self._status = status

    @property
    def code(self) -> Any:  # type: ignore[override]
        """The status; asked for by the interpreter, the job ends."""
        if sys._getframe().f_back is None:
            self._hooks.on_exit(self._status)
        return self._status
