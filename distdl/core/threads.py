"""The one place that decides how many threads a rank uses.

The rule, for ranks that share a node under MPI: BLAS gets the rank's share of the cores, Numba one
thread, since our kernels are called for pieces too small to split. A process alone takes one thread
for both: small layers lose more by waking threads than they gain, results then do not depend on the
machine's size, and ranks use the cores better. `DISTDL_NUM_THREADS`, else `OMP_NUM_THREADS` (which
schedulers set), decides both by force.
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

    blas: int
    numba: int
    reason: str


def cores() -> list[int]:
    """Return the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def plan(mine: Collection[int], node: Sequence[Collection[int]]) -> Threads:
    """Decide for one rank.

    Args:
        mine: the cores that this rank may run on.
        node: the same for each rank of its node, itself included. A launcher that binds each rank
            leaves masks that do not overlap; a core that several masks hold is shared equally.
    """
    told = settings.num_threads()
    if told is not None:
        return Threads(told, told, "DISTDL_NUM_THREADS")
    scheduler = os.environ.get("OMP_NUM_THREADS", "")
    if scheduler.isdecimal() and int(scheduler) > 0:
        return Threads(int(scheduler), int(scheduler), "OMP_NUM_THREADS")
    if len(node) <= 1:
        return Threads(1, 1, "one process alone")
    share = sum(Fraction(1, sum(core in other for other in node)) for core in mine)
    return Threads(max(1, int(share)), 1, f"share of {len(mine)} core{'s' if len(mine) > 1 else ''}")


def apply(threads: Threads) -> None:
    """Give BLAS and Numba so many threads, be they loaded or not."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=threads.blas, user_api="blas")
    # Libraries that are loaded later read these.
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"):
        os.environ[name] = str(threads.blas)
    numba = sys.modules.get("numba")
    if numba is None:
        os.environ["NUMBA_NUM_THREADS"] = str(threads.numba)
    else:
        numba.set_num_threads(min(threads.numba, numba.config.NUMBA_NUM_THREADS))
