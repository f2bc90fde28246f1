"""A scheduler says that the end is near: all ranks leave after the same step, and the fit goes on elsewhere."""

import os
import signal

import pytest

from distdl.cluster.launch import mpiexec_family
from distdl.core.exit_codes import REQUEUE
from distdl.train.checkpoint import list_checkpoints, verify_checkpoint
from tests.faults.running import Fit
from tests.faults.training import STEPS
from tests.jobs.launching import strays

pytestmark = pytest.mark.job


@pytest.mark.parametrize(
    ("number", "to", "ranks", "then"),
    [
        (signal.SIGUSR1, "rank", 2, 3),
        (signal.SIGTERM, "rank", 3, 1),
        (signal.SIGUSR1, "mpiexec", 2, 4),
        (signal.SIGTERM, "mpiexec", 2, 2),
    ],
)
def test_a_fit_that_is_told_to_leave_goes_on_to_the_same_bits(binaries, tmp_path, expected, number, to, ranks, then):
    """In the middle of an epoch, with the last step in a checkpoint, on another number of ranks."""
    if to == "mpiexec" and number == signal.SIGTERM and mpiexec_family(str(binaries / "mpiexec")) == "openmpi":
        # It kills its ranks then: `distdl launch` passes SIGTERM on to it as SIGUSR1, see test_supervisor.py.
        to = "rank"
    fit = Fit(binaries, ranks, tmp_path, seconds=0.1)
    fit.reach(12)
    os.kill(fit.ranks()[-1] if to == "rank" else fit.process.pid, number)
    assert fit.wait(10 + 5) == REQUEUE, fit.text
    assert f"distdl: {number.name} on rank {ranks - 1 if to == 'rank' else 0}" in fit.text, fit.text
    assert "Traceback" not in fit.text
    newest, last = list_checkpoints(fit.checkpoints)[0], fit.steps[-1]
    assert newest.name == f"checkpoint-{last:010d}"
    assert 12 <= last < STEPS
    assert verify_checkpoint(newest) == []
    assert strays(fit.mark) == [], fit.text
    resumed = Fit(binaries, then, tmp_path)
    assert resumed.wait() == 0, resumed.text
    assert resumed.steps == list(range(last + 1, STEPS + 1))
    assert resumed.digest == expected


def test_a_rank_that_is_told_after_its_fit_ends_well(binaries, tmp_path):
    """It has nothing to save, and SIGUSR1 is no reason to die."""
    fit = Fit(binaries, 2, tmp_path, options={"DISTDL_TEST_LINGER": "2"})
    fit.wait_for(lambda: fit.digest)
    for process in fit.ranks():
        os.kill(process, signal.SIGUSR1)
    assert fit.wait() == 0, fit.text
