"""How kernels are compiled: by one process of those that share a cache directory, while the others wait."""

import contextlib
import functools
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import NullCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import NumbaError

from ..core import activity
from ..core.filelock import FileLock
from .cache import LOCK, cache_directory, config, source_digest

Function = TypeVar("Function", bound=Callable[..., Any])

PATIENCE = 600.0
"""Seconds after which a process compiles by itself: what holds the lock has been stopped."""

_QUIET_SECONDS = 60.0

compiled: list[str] = []
"""Names of the functions that this process has compiled, and not loaded."""


def jit(function: Function, reassociate: bool = False, contract: bool = True) -> Function:
    """Compile a function at its first call for each combination of argument types.

    Sums keep their order unless `reassociate`, NaN and infinities are kept always; a division by
    zero gives what NumPy's gives. The interpreter lock is released while it runs. Products and sums may
    be rounded once together if `contract`.
    """
    fastmath = {flag for flag, is_on in (("contract", contract), ("reassoc", reassociate)) if is_on}
    directory = cache_directory()
    with _numba_cache(directory):
        options: dict[str, Any] = {
            "nogil": True,
            "error_model": "numpy",
            "fastmath": fastmath,
            "no_cfunc_wrapper": True,
        }
        dispatcher: Any = numba.njit(cache=directory is not None, **options)(function)
    # Numba may be told to leave functions as they are.
    if directory is not None and dispatcher is not function:
        _Shared(dispatcher, _turn(directory))
    return cast(Function, dispatcher)


@contextlib.contextmanager
def _numba_cache(directory: Path | None) -> Iterator[None]:
    """Point Numba's cache at `directory` while a function is being decorated; other libraries keep theirs."""
    before = config.CACHE_DIR
    config.CACHE_DIR = str(directory or "")
    try:
        yield
    finally:
        config.CACHE_DIR = before


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Keep Python from looking for rubbish: what the compiler makes lives until it is done, and this takes a tenth."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Turn:
    """The right to compile into a directory; guarded against threads by Numba's own lock, which is taken first."""

    def __init__(self, directory: Path):
        self.lock = FileLock(directory / LOCK)
        self.depth = 0

    @contextlib.contextmanager
    def until_done(self) -> Iterator[None]:
        """Give the right back, if it was taken, when the outermost function is compiled."""
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            if self.depth == 0:
                self.lock.release()

    def take(self) -> bool:
        """Wait for the right, and say whether it was given."""
        if self.lock.held:
            return True
        if not self.lock.acquire(PATIENCE):
            return False
        self._tell()
        return True

    def _tell(self) -> None:
        """Say that kernels are compiled: once, whichever ranks do it."""
        status = os.stat(self.lock.path)
        if status.st_size == 0 or time.time() - status.st_mtime > _QUIET_SECONDS:
            print(
                f"distdl: compiling kernels, once for this CPU and version, into {self.lock.path.parent}; other ranks "
                "wait (`distdl warmup` does it ahead)",
                file=sys.stderr,
                flush=True,
            )
        self.lock.path.write_text("kernels are compiled under this lock\n")


@functools.cache
def _turn(directory: Path) -> _Turn:
    return _Turn(directory)


class _Shared:
    """Makes a function of Numba's take turns with other processes, and survive a cache that fails.

    A function that is in the cache is loaded without a lock: files there are replaced whole.

    Args:
        dispatcher: the function, as Numba compiles it.
        turn: the right to compile.
    """

    def __init__(self, dispatcher: Any, turn: _Turn):
        self.dispatcher = dispatcher
        self.turn = turn
        self._compile = dispatcher.compile
        self._load = dispatcher._cache.load_overload
        dispatcher._cache._cache_file._source_stamp = source_digest(dispatcher.py_func.__code__.co_filename)
        dispatcher._cache.load_overload = self.load
        dispatcher.compile = self.compile

    def load(self, signature: Any, context: Any) -> Any:
        """Return the machine code from the cache; None, with the right to compile, if there is none."""
        found = self._load(signature, context)
        if found is None and not self.turn.take():
            self.dispatcher._cache = NullCache()
        elif found is None:
            # Another process may have compiled it meanwhile.
            found = self._load(signature, context)
        if found is None:
            compiled.append(self.dispatcher.py_func.__name__)
        return found

    def compile(self, signature: Any) -> Any:
        """Load or compile for a combination of types, and return the entry point."""
        with (
            global_compiler_lock,
            self.turn.until_done(),
            activity.during("compiling kernels, once"),
            _without_collector(),
        ):
            try:
                return self._compile(signature)
            except NumbaError:
                raise
            except Exception as error:  # a damaged pickle raises anything
                return self._without_cache(signature, error)

    def _without_cache(self, signature: Any, error: Exception) -> Any:
        """Go on after the cache failed: the disk is full, a file is damaged or gone."""
        cache = self.dispatcher._cache
        self.dispatcher._cache = NullCache()
        # What is wrong with the function itself is raised here again.
        entry_point = self._compile(signature)
        _tell_failure(type(error).__name__, getattr(error, "strerror", None) or "damaged")
        with contextlib.suppress(OSError):
            # What is damaged would meet every run.
            cache.flush()
        return entry_point


@functools.cache
def _tell_failure(kind: str, problem: str) -> None:
    """Say why code is not kept: once a reason, not once a kernel."""
    print(f"distdl: a compiled kernel is not kept ({kind}: {problem})", file=sys.stderr, flush=True)
