"""The threads of a rank, which share the samples of a batch, the columns of a product, or values.

These are cut into neighbouring parts, one for each thread, and what the parts give is put together in their order:
sums depend on how many threads there are (and so on how they are cut), nothing on which is faster.

A step has a hundred and more parts to hand over, of some ten microseconds each. So the caller prepares all parts, and
hands kernels' calls, not Python's, to threads that look for them in compiled code (`handover.py`); who has looked in
vain for a while sleeps.
"""

import atexit
import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from ..core import threads
from . import handover
from .scratch import forget, scratch

Result = TypeVar("Result")

# Multiplications that take a few times as long as handing work to a thread.
_WORTH_A_THREAD = 1 << 20

MEMORY_BOUND = 16
"""What a value costs in operations that wait for memory, against one multiplication in registers."""

# How often to look before going to sleep: about a quarter of a millisecond.
_LOOKS = 1 << 13

# After so many times as many looks the caller, who does not sleep, sees to signals.
_TURNS = 100

# One that was left behind in a kernel is not waited for longer.
_SECONDS_TO_END = 10


class Part:
    """What one thread does.

    Attributes:
        slice: which of all that is cut.
    """

    def __init__(self, part: slice, number: int, worker: "_Worker | None" = None):
        self.slice = part
        self._number = number
        self._worker = worker

    def call(self, kernel: Callable[..., None], *arguments: Any) -> None:
        """Have the thread call a kernel, after earlier ones; what it gives is there when `each_part` returns."""
        if self._worker is None:
            kernel(*arguments)
        else:
            self._worker.call(kernel, arguments)

    def scratch(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return working memory that no other part has, see `scratch`."""
        return scratch(name, shape, dtype, self._number)


def each_part(function: Callable[[Part], Result], count: int, cost: int, are_summed: bool = False) -> list[Result]:
    """Call `function` for the parts of range(count), and return its results in their order, when all calls are done.

    Args:
        function: runs here, and calls kernels by `Part.call`; they run at the same time.
        count: what is to be cut; 0 gives one empty part.
        cost: multiplications, or the like, for each of `count`: small parts are not worth waking a thread.
        are_summed: results are added up, so that bits depend on how many parts there are: in reproducible mode one.

    Raises:
        RuntimeError: a kernel has failed in another thread.
    """
    most = 1 if are_summed and threads.sums_are_fixed() else _told or threads.current()
    if not _told:
        most = min(most, count * cost // _WORTH_A_THREAD)
    number = max(1, min(most, count))
    if number == 1:
        return [function(Part(slice(0, count), 0))]
    parts = _cut(count, number)
    # The team works for one thread at a time; another one does its parts alone, which gives the same.
    if not _team.turn.acquire(blocking=False):
        return [function(Part(part, 0)) for part in parts]
    try:
        return _team.work(function, parts)
    finally:
        _team.turn.release()


@contextlib.contextmanager
def shared_by(number: int) -> Iterator[None]:
    """Let so many threads share all that can be shared meanwhile, however small it is."""
    global _told
    before, _told = _told, number
    try:
        yield
    finally:
        _told = before


_told: int | None = None


def _cut(count: int, parts: int) -> list[slice]:
    edges = [count * i // parts for i in range(parts + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


class _Worker:
    """A thread that makes one call after another."""

    def __init__(self) -> None:
        self._box = handover.new_box()
        # What lies in the box must live until it is done, even if the caller is interrupted.
        self._calls: list[Any] = []
        self._held: Any = None
        self._is_asleep = self._is_over = False
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="distdl-team", daemon=True)
        self._thread.start()

    def call(self, kernel: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        """Give the thread a call."""
        if len(self._calls) == handover.CALLS:
            self.wait()
        self._calls.append((kernel, arguments))
        handover.give(self._box, kernel, arguments)
        self._wake()

    def wait(self) -> None:
        """Wait until all calls are done."""
        while not handover.is_done(self._box, _LOOKS, _TURNS):
            # An interrupted `call` may not have come to it.
            self._wake()
        self._calls.clear()

    def has_failed(self) -> bool:
        """Say whether a call has failed since this was last asked."""
        failed, self._box[handover.FAILED] = self._box[handover.FAILED], 0
        return bool(failed)

    def leave(self, held: Any = None) -> None:
        """Have the thread end when the calls that it is at are done; what they need is held as long."""
        self._held = held
        self._is_over = True
        self._awake.set()

    def is_alive(self) -> bool:
        """Say whether the thread has not ended."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the thread."""
        self.leave(self._held)
        self._thread.join(_SECONDS_TO_END)

    def _wake(self) -> None:
        if self._is_asleep:
            self._awake.set()

    def _run(self) -> None:
        while not self._is_over:
            handover.serve(self._box, _LOOKS)
            self._is_asleep = True
            while True:
                self._awake.clear()
                # Given before it was known that somebody sleeps, a call is there by now.
                if self._is_over or not handover.is_empty(self._box):
                    break
                self._awake.wait()
            self._is_asleep = False
        # Who was interrupted waits for nothing any more.
        self._calls, self._held = [], None


class _Team:
    """The caller and as many workers as have been needed so far."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self._workers: list[_Worker] = []
        self._left: list[_Worker] = []

    def work(self, function: Callable[[Part], Result], parts: list[slice]) -> list[Result]:
        """Call the function for all parts, the first of which is done here."""
        while len(self._workers) < len(parts) - 1:
            self._workers.append(_Worker())
        workers = self._workers[: len(parts) - 1]
        try:
            others = [function(Part(parts[i], i, worker)) for i, worker in enumerate(workers, 1)]
            first = function(Part(parts[0], 0))
        finally:
            # Workers write to memory that the caller may drop.
            self._wait(workers, function)
            # All are asked, whatever else is wrong: what has failed here is not to be told of the next work.
            failed = [worker.has_failed() for worker in workers]
        if any(failed):
            raise RuntimeError("a kernel failed in a thread of its own; with one thread it says why")
        return [first, *others]

    def _wait(self, workers: list[_Worker], function: Callable[[Part], Any]) -> None:
        try:
            for worker in workers:
                worker.wait()
        except BaseException:
            # Interrupted while workers still run: the next call gets others, and working memory that is not theirs.
            for worker in self._workers:
                worker.leave(function)
            self._left = [worker for worker in [*self._left, *self._workers] if worker.is_alive()]
            self._workers = []
            forget()
            raise

    def stop(self) -> None:
        """End all threads; they must have no calls."""
        for worker in [*self._workers, *self._left]:
            worker.stop()
        self._workers, self._left = [], []


_team = _Team()


def _forget() -> None:
    """Threads do not survive a fork: the child makes its own."""
    global _team
    _team = _Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
# A thread that looks, in compiled code, must not meet the end of the interpreter.
atexit.register(lambda: _team.stop())
