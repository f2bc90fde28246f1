"""How many threads a rank uses."""

import os
import subprocess
import sys

import pytest

from distdl.core import threads
from distdl.core.errors import ArgumentError


@pytest.fixture(autouse=True)
def _nobody_has_said(monkeypatch):
    for name in ("DISTDL_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("ranks", "share"), [(1, 1), (2, 4), (3, 2), (8, 1), (16, 1)])
def test_ranks_share_the_cores_that_all_may_use(ranks, share):
    """A rank gets its share of 8 cores, at least one; a process alone gets one."""
    assert threads.plan(range(8), [range(8)] * ranks).count == share


def test_ranks_that_are_bound_keep_their_cores():
    """Masks that do not overlap are not shared; of those that overlap in part, the overlap is."""
    assert threads.plan([0, 1], [[0, 1], [2, 3], [4, 5, 6]]).count == 2
    assert threads.plan([4, 5, 6], [[0, 1], [2, 3], [4, 5, 6]]).count == 3
    assert threads.plan([0, 1, 2], [[0, 1, 2], [2, 3, 4]]).count == 2


def test_shares_are_exact():
    """Six cores of six ranks are one thread each, whatever 1/6 is in floating point."""
    assert [threads.plan(range(3 * n), [range(3 * n)] * n).count for n in range(2, 60)] == [3] * 58


def test_a_quota_bounds_the_share():
    """A container that may take two and a half cores' time gives two threads, and at least one."""
    assert threads.plan(range(8), [range(8)] * 2, 2.5) == threads.Threads(2, "share of a container's quota")
    assert threads.plan(range(8), [range(8)] * 2, 0.3).count == 1
    assert threads.plan(range(8), [range(8)] * 2, 40.0).count == 4


def test_more_threads_than_cores_are_told(monkeypatch):
    """A rank that is bound to one core, and told four threads, names the variable, the core and the rule."""
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    told = threads.complaint(threads.plan([7], [[7]]), [7])
    assert told.startswith("OMP_NUM_THREADS asks for 4 threads, and the launcher binds the process to core 7 alone")
    assert threads.complaint(threads.plan([0, 1, 2, 3], [[0]]), [0, 1, 2, 3]) == ""


def test_the_environment_decides_first(monkeypatch):
    """DISTDL_NUM_THREADS wins over OMP_NUM_THREADS, which wins over the cores."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.plan([0], [[0]]) == threads.Threads(3, "OMP_NUM_THREADS")
    monkeypatch.setenv("DISTDL_NUM_THREADS", "5")
    assert threads.plan([0], [[0]]) == threads.Threads(5, "DISTDL_NUM_THREADS")
    monkeypatch.setenv("DISTDL_NUM_THREADS", "many")
    with pytest.raises(ArgumentError, match=r"`DISTDL_NUM_THREADS` \(='many'\) must be an integer >= 1"):
        threads.plan([0], [[0]])


def test_cores_are_those_of_the_affinity_mask():
    """A process bound to one core counts one."""
    assert len(threads.cores()) >= 1
    if hasattr(os, "sched_setaffinity"):
        program = (
            "import os\nfrom distdl.core import threads\n"
            "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\nassert len(threads.cores()) == 1\n"
        )
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("first", ["numpy, numba", "numpy"])
def test_libraries_use_what_was_decided(first):
    """BLAS and Numba use so many threads, whether they are loaded before or after."""
    program = (
        f"import {first}\nfrom distdl.core import threads\nthreads.apply(threads.Threads(2, 'test'))\n"
        "import numba, scipy.linalg\nfrom threadpoolctl import threadpool_info\n"
        "assert numba.get_num_threads() == min(2, numba.config.NUMBA_NUM_THREADS), numba.get_num_threads()\n"
        "assert threads.current() == 2\n"
        "pools = [pool['num_threads'] for pool in threadpool_info() if pool['user_api'] == 'blas']\n"
        "assert pools and set(pools) <= {min(2, max(pools))}, pools\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
