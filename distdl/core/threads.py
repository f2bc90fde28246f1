"""The one place that decides how many threads a rank uses: its kernels (`core/team.py`), BLAS and Numba's loops.

The rule, for ranks that share a node under MPI: each gets its share of the cores, and of the processor time where a
container's quota is less. A process alone takes one thread: results then do not depend on the machine's size, and two
ranks use two cores better than two threads do. `DISTDL_NUM_THREADS`, else `OMP_NUM_THREADS` (which schedulers set),
decides by force.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction

from . import settings


@dataclass(frozen=True)
class Threads:
    """How many threads a rank uses, and why."""

    count: int
    reason: str


_current: Threads | None = None
_fixed = 0


def cores() -> list[int]:
    """Return the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def plan(mine: Collection[int], node: Sequence[Collection[int]], quota: float | None = None) -> Threads:
    """Decide for one rank.

    Args:
        mine: the cores that this rank may run on.
        node: the same for each rank of its node, itself included. A launcher that binds each rank
            leaves masks that do not overlap; a core that several masks hold is shared equally.
        quota: cores' worth of processor time that this rank may take; None: no bound.
    """
    told = settings.num_threads()
    if told is not None:
        return Threads(told, "DISTDL_NUM_THREADS")
    scheduler = os.environ.get("OMP_NUM_THREADS", "")
    if scheduler.isdecimal() and int(scheduler) > 0:
        return Threads(int(scheduler), "OMP_NUM_THREADS")
    if len(node) <= 1:
        return Threads(1, "one process alone")
    share = sum(Fraction(1, sum(core in other for other in node)) for core in mine)
    if quota is not None and quota < share:
        return Threads(max(1, int(quota)), "share of a container's quota")
    return Threads(max(1, int(share)), f"share of {len(mine)} core{'s' if len(mine) > 1 else ''}")


def complaint(threads: Threads, mine: Collection[int]) -> str:
    """Say that a rank was told more threads than it has cores; empty if not.

    Args:
        threads: what was decided.
        mine: the cores that the rank may run on.
    """
    if threads.count <= len(mine):
        return ""
    cores = f"core {min(mine)} alone" if len(mine) == 1 else f"{len(mine)} cores"
    return (
        f"{threads.reason} asks for {threads.count} threads, and the launcher binds the process to {cores}: "
        "let it bind a rank to as many cores as it has threads, or say less"
    )


def current() -> int:
    """Return how many threads this process uses: what was applied, else what it uses alone."""
    global _current
    if _current is None:
        _current = plan(cores(), [cores()])
    return _current.count


def applied() -> Threads:
    """Return what was applied, else what this process uses alone."""
    current()
    assert _current is not None
    return _current


def fix_sums() -> None:
    """From now on results must not depend on the number of threads: BLAS takes one, and sums are not divided."""
    global _fixed
    _fixed += 1
    if _fixed == 1:
        _limit_blas(1)


def free_sums() -> None:
    """Take one `fix_sums` back."""
    global _fixed
    _fixed -= 1
    if _fixed == 0:
        _limit_blas(current())


def sums_are_fixed() -> bool:
    """Say whether sums must be taken as by one thread."""
    return _fixed > 0


def _limit_blas(count: int) -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=count, user_api="blas")


def apply(threads: Threads) -> None:
    """Use so many threads, in libraries that are loaded and in those that will be."""
    global _current
    _current = threads
    _limit_blas(1 if _fixed else threads.count)
    # Libraries that are loaded later read these.
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"):
        os.environ[name] = str(threads.count)
    numba = sys.modules.get("numba")
    if numba is None:
        os.environ["NUMBA_NUM_THREADS"] = str(threads.count)
    else:
        numba.set_num_threads(min(threads.count, numba.config.NUMBA_NUM_THREADS))


def pools() -> dict[str, int]:
    """Return how many threads each library that is loaded would use: each BLAS or OpenMP, and Numba's loops."""
    from threadpoolctl import threadpool_info

    found = {
        f"{pool['internal_api']} {pool['version'] or ''}".strip(): pool["num_threads"] for pool in threadpool_info()
    }
    numba = sys.modules.get("numba")
    return found if numba is None else {**found, "numba": numba.get_num_threads()}
