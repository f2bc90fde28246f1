"""The threads of a rank, which share the samples of a batch.

A batch is cut into neighbouring parts, one for each thread, and what the parts give is put together in
their order: results depend on how many threads there are (and so on how sums are cut), not on which is faster.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from . import threads

Result = TypeVar("Result")

# Multiplications that take a few times as long as handing work to a thread.
_WORTH_A_THREAD = 1 << 22

_pool: ThreadPoolExecutor | None = None
_workers = 0


def size() -> int:
    """Return how many threads work for this rank."""
    return threads.current()


def each_part(function: Callable[[slice], Result], count: int, cost: int) -> list[Result]:
    """Call `function` on the parts of range(count), at the same time, and return its results in their order.

    Args:
        function: must let go of the interpreter lock for most of its time, as kernels do.
        count: what is to be cut; 0 gives one empty part.
        cost: multiplications, or the like, for each of `count`: small parts are not worth waking a thread.

    Raises:
        Exception: that of the first part that failed, after all have ended.
    """
    parts = _cut(count, max(1, min(size(), count, count * cost // _WORTH_A_THREAD)))
    if len(parts) == 1:
        return [function(parts[0])]
    futures = [_executor(len(parts) - 1).submit(function, part) for part in parts[1:]]
    try:
        first = function(parts[0])
    finally:
        # Workers write to memory that the caller may drop.
        errors = [future.exception() for future in futures]
    for error in errors:
        if error is not None:
            raise error
    return [first, *(future.result() for future in futures)]


def _cut(count: int, parts: int) -> list[slice]:
    edges = [count * i // parts for i in range(parts + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def _executor(workers: int) -> ThreadPoolExecutor:
    global _pool, _workers
    if _pool is None or _workers < workers:
        _pool, _workers = ThreadPoolExecutor(workers, "distdl"), workers
    return _pool


def _forget() -> None:
    """Threads do not survive a fork: the child makes its own."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
