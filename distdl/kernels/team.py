"""The threads of a rank, which share the samples of a batch, the columns of a product, or values.

These are cut into neighbouring parts, one for each thread, and what the parts give is put together in their order:
sums depend on how many threads there are (and so on how they are cut), nothing on which is faster.

A step has a hundred and more parts to hand over, of some ten microseconds each. So threads that wait look
for a while before they sleep (`spin.py`).
"""

import atexit
import functools
import itertools
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..core import threads
from .spin import changes

Result = TypeVar("Result")

# Multiplications that take a few times as long as handing work to a thread.
_WORTH_A_THREAD = 1 << 20

MEMORY_BOUND = 16
"""What a value costs in operations that wait for memory, against one multiplication in registers."""

# How often to look before going to sleep: about a quarter of a millisecond.
_LOOKS = 1 << 13

# How long to rest before taking the interpreter's lock, in looks: until the caller is in its own part's kernel
# (about ten microseconds), and until a worker waits again.
_REST_OF_WORKER, _REST_OF_CALLER = 300, 150


def size() -> int:
    """Return how many threads work for this rank."""
    return threads.current()


def each_part(function: Callable[[slice], Result], count: int, cost: int, are_summed: bool = False) -> list[Result]:
    """Call `function` on the parts of range(count), at the same time, and return its results in their order.

    Args:
        function: must let go of the interpreter lock for most of its time, as kernels do.
        count: what is to be cut; 0 gives one empty part.
        cost: multiplications, or the like, for each of `count`: small parts are not worth waking a thread.
        are_summed: results are added up, so that bits depend on how many parts there are: in reproducible mode one.

    Raises:
        Exception: that of the first part that failed, after all have ended.
    """
    team = 1 if are_summed and threads.sums_are_fixed() else size()
    number = max(1, min(team, count, count * cost // _WORTH_A_THREAD))
    if number == 1:
        return [function(slice(0, count))]
    parts = _cut(count, number)
    # The team works for one thread at a time; another one does its parts alone, which gives the same.
    if not _team.turn.acquire(blocking=False):
        return [function(part) for part in parts]
    try:
        return _team.work(function, parts)
    finally:
        _team.turn.release()


def _cut(count: int, parts: int) -> list[slice]:
    edges = [count * i // parts for i in range(parts + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


class _Count:
    """A number that one thread raises while another waits for it to change, and then rests for some looks."""

    def __init__(self, rest: int) -> None:
        self._rest = rest
        self._count = np.zeros(1, np.int64)
        self._is_asleep = False
        self._awake = threading.Event()

    def increase(self) -> None:
        self._count[0] += 1
        if self._is_asleep:
            self._awake.set()

    def wait(self, seen: int) -> None:
        if changes(self._count, seen, _LOOKS, self._rest):
            return
        self._is_asleep = True
        self._awake.clear()
        # Raised before it was known that somebody sleeps, the number has changed by now.
        while self._count[0] == seen:
            self._awake.wait()
        self._is_asleep = False


class _Worker:
    """A thread that runs one task after another."""

    def __init__(self) -> None:
        self._given, self._done = _Count(_REST_OF_WORKER), _Count(_REST_OF_CALLER)
        self._tasks = 0
        self._task: Callable[[], Any] | None = None
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="distdl-team", daemon=True)
        self._thread.start()

    def start(self, task: Callable[[], Any]) -> None:
        """Begin a task; the one before must be done."""
        self._task = task
        self._given.increase()

    def wait(self) -> BaseException | None:
        """Wait for the task, and return what it has raised."""
        self._done.wait(self._tasks)
        self._tasks += 1
        return self._error

    def take(self) -> Any:
        """Return the result of the task, and keep nothing of it."""
        result, self._result = self._result, None
        return result

    def stop(self) -> None:
        """End the thread."""
        self._given.increase()
        self._thread.join()

    def _run(self) -> None:
        for number in itertools.count():
            self._given.wait(number)
            task, self._task = self._task, None
            if task is None:
                return
            self._error = None
            try:
                self._result = task()
            except BaseException as error:
                self._error = error
            # It may hold arrays.
            del task
            self._done.increase()


class _Team:
    """The caller and as many workers as have been needed so far."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self._workers: list[_Worker] = []

    def work(self, function: Callable[[slice], Result], parts: list[slice]) -> list[Result]:
        """Call the function on all parts, and on the first here."""
        while len(self._workers) < len(parts) - 1:
            self._workers.append(_Worker())
        workers = self._workers[: len(parts) - 1]
        for worker, part in zip(workers, parts[1:], strict=True):
            worker.start(functools.partial(function, part))
        try:
            first = function(parts[0])
        finally:
            # Workers write to memory that the caller may drop.
            errors = self._wait(workers)
        for error in errors:
            if error is not None:
                raise error
        return [first, *(worker.take() for worker in workers)]

    def _wait(self, workers: list[_Worker]) -> list[BaseException | None]:
        try:
            return [worker.wait() for worker in workers]
        except BaseException:
            # Interrupted while workers still run: the next call gets others.
            self._workers = []
            raise

    def stop(self) -> None:
        """End all threads; they must have no task."""
        for worker in self._workers:
            worker.stop()
        self._workers = []


_team = _Team()


def _forget() -> None:
    """Threads do not survive a fork: the child makes its own."""
    global _team
    _team = _Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
# A thread that looks, in compiled code, must not meet the end of the interpreter.
atexit.register(lambda: _team.stop())
