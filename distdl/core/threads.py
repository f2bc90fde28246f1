"""The one place that decides how many threads a rank uses."""

import os
import sys

from . import checks


def cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def plan(local_size: int) -> int:
    """Return the threads of a rank that shares its node with `local_size` ranks, itself included.

    `DISTDL_NUM_THREADS` decides, else `OMP_NUM_THREADS` (schedulers set it), else: the rank's share of
    the cores it may run on, at least 1. A launcher that has bound ranks to cores leaves each rank a
    mask of its own, which is then not shared. A process alone takes one thread: small layers lose
    more by waking threads than they gain, and more ranks use the cores better.
    """
    for name in ("DISTDL_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
        if value and name == "DISTDL_NUM_THREADS":
            raise checks.bad_value(name, value, "must be an integer >= 1")
    if local_size <= 1:
        return 1
    bound = cores() < (os.cpu_count() or 1)
    return max(1, cores() if bound else cores() // local_size)


def set_threads(count: int) -> None:
    """Give BLAS, and Numba if it is loaded or will be, so many threads."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=count, user_api="blas")
    # Read by BLAS libraries and Numba when they are loaded later.
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        if name != "NUMBA_NUM_THREADS" or "numba" not in sys.modules:
            os.environ[name] = str(count)
    if "numba" in sys.modules:
        numba = sys.modules["numba"]
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
