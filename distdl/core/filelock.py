"""A lock between processes that is free at once when its holder dies: the operating system keeps it."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PAUSE = 0.005


class FileLock:
    """A lock on a file, for one holder at a time among all processes that see it.

    Args:
        path: the file; made when needed, never removed.
    """

    def __init__(self, path: Path):
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def works(self) -> bool:
        """Say whether the file can be locked: some network file systems cannot."""
        if fcntl is None:
            return True
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def acquire(self, seconds: float, on_wait: Callable[[], None] | None = None) -> bool:
        """Take the lock, and say whether that was possible within so many seconds.

        Args:
            seconds: 0 tries once.
            on_wait: called once if another process holds it.

        Raises:
            OSError: the file cannot be opened or locked.
        """
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + seconds
        try:
            while not _try(descriptor):
                if on_wait is not None:
                    on_wait()
                    on_wait = None
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_PAUSE)
            self._descriptor, descriptor = descriptor, -1
            return True
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def release(self) -> None:
        """Let go of the lock, if it is held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        with contextlib.suppress(OSError):
            if fcntl is not None:
                # Closing is not enough: a process forked meanwhile holds the file open too.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
