"""What surrounds a job breaks: no room in shared memory, a second job with the same checkpoints."""

import shutil
import subprocess

import pytest

from tests.faults.running import Fit
from tests.jobs.launching import strays

pytestmark = pytest.mark.job


def test_no_room_in_shared_memory_ends_in_words(binaries, tmp_path):
    """With 64 KiB of /dev/shm a job trains to its end, or ends in time and says why."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("a /dev/shm of one's own takes root")
    script = 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"'
    fit = Fit(binaries, 3, tmp_path, launch=(), before=["unshare", "--mount", "sh", "-c", script, "sh"])
    code = fit.wait(60)
    assert (code == 0) == (fit.digest is not None), fit.text
    if code:
        assert "/dev/shm" in fit.text, fit.text
    assert strays(fit.mark) == []


def test_a_second_job_with_the_same_checkpoints_is_refused(binaries, tmp_path, expected):
    """It ends before its first step, on all ranks, and names the directory; the first is not disturbed."""
    # Longer than a second job needs to start on a busy machine.
    first = Fit(binaries, 2, tmp_path, seconds=0.5)
    first.reach(3)
    (tmp_path / "second").mkdir()
    second = Fit(binaries, 2, tmp_path / "second", checkpoints=first.checkpoints)
    assert second.wait(30) == 1, second.text
    assert f"{first.checkpoints}: another job writes its checkpoints there" in second.text
    assert second.text.count("Traceback") == 1
    assert second.steps == []
    assert strays(second.mark) == []
    assert first.wait() == 0, first.text
    assert first.digest == expected
