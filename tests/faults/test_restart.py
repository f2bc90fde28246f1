"""`distdl launch` with a real job that dies, is started again, and ends with the same bits."""

import os
import re
import signal

import pytest

from distdl.core.exit_codes import REQUEUE
from tests.faults.running import Fit
from tests.jobs.launching import strays

pytestmark = pytest.mark.job

OPTIONS = ("--max-restarts", "3")


def test_a_job_whose_ranks_are_killed_again_and_again(binaries, tmp_path, expected):
    """Goes on from its checkpoints, says what died, and leaves no process behind."""
    fit = Fit(binaries, 2, tmp_path, every=5, seconds=0.15, launch=OPTIONS)
    for step, rank in ((7, 1), (17, 0)):
        fit.reach(step)
        os.kill(fit.ranks()[rank], signal.SIGKILL)
    assert fit.wait(120) == 0, fit.text
    assert fit.digest == expected
    said = re.findall(
        r"distdl launch: died after .* rank (\d) \(.*\) has died.*; restart (\d) of 3 .* from .*-0*(\d+)", fit.text
    )
    assert [(rank, number) for rank, number, _ in said] == [("1", "1"), ("0", "2")]
    assert [int(step) for _, _, step in said] == [5, 15]
    assert strays(fit.mark) == []


def test_sigterm_at_the_supervisor_ends_the_job_in_good_order(binaries, tmp_path, expected):
    """Under both MPIs; no restart; the next job goes on."""
    fit = Fit(binaries, 2, tmp_path, seconds=0.05, launch=OPTIONS)
    fit.reach(8)
    fit.process.send_signal(signal.SIGTERM)
    assert fit.wait(15) == REQUEUE, fit.text
    assert "leaving with exit code 75" in fit.text
    assert "restart" not in fit.text
    assert strays(fit.mark) == []
    resumed = Fit(binaries, 3, tmp_path, launch=OPTIONS)
    assert resumed.wait() == 0, resumed.text
    assert "step 8\n" not in resumed.text
    assert resumed.digest == expected
