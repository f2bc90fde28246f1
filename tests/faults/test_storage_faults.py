"""Disks that are full, read-only, gone or slow, and checkpoints that are damaged, in whole fits under both MPIs."""

import json
import os
import shutil
import subprocess

import pytest

from distdl.train.checkpoint import list_checkpoints, verify_checkpoint
from tests.faults.running import Fit
from tests.faults.training import STEPS
from tests.jobs.launching import ALL, strays

pytestmark = pytest.mark.job

END_SECONDS = 20
"""For a whole fit, its start included."""

WARN = {"DISTDL_TEST_ON_ERROR": "warn"}


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a small disk at the fit's directory; by root only."""
    mounted = []

    def mount(kilobytes):
        place = tmp_path / "checkpoints"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("mounting a small disk takes root")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def remount(place, option):
    subprocess.run(["mount", "-o", f"remount,{option}", str(place)], check=True)


def one_ends_the_fit(fit, *said):
    """The fit ends in time, on all ranks, with one traceback and these words."""
    assert fit.wait(END_SECONDS) == 1, fit.text
    for words in said:
        assert words in fit.text, fit.text
    assert fit.text.count("Traceback") == 1, fit.text
    assert strays(fit.mark) == []


def ends_well_on(binaries, tmp_path, expected, ranks):
    """A fit on so many ranks goes on to the same bits."""
    resumed = Fit(binaries, ranks, tmp_path)
    assert resumed.wait() == 0, resumed.text
    assert resumed.digest == expected
    return resumed


def test_a_full_disk_ends_the_fit(binaries, tmp_path, disk, expected):
    """It says which checkpoint was not written and why; those before are whole, and with room the fit goes on."""
    place = disk(24)
    fit = Fit(binaries, 2, tmp_path, every=3, seconds=0.02)
    one_ends_the_fit(fit, "checkpoint of step", "not written: OSError: [Errno 28] No space left on device", "rank")
    found = list_checkpoints(place)
    assert found
    assert [verify_checkpoint(path) for path in found] == [[]] * len(found)
    remount(place, "size=8m")
    ends_well_on(binaries, tmp_path, expected, 3)


def test_a_full_disk_is_told_where_the_fit_is_to_go_on(some_binaries, tmp_path, disk, expected):
    """It trains to its end, with the last good checkpoint left."""
    place = disk(24)
    fit = Fit(some_binaries, 2, tmp_path, every=3, options=WARN)
    assert fit.wait(END_SECONDS) == 0, fit.text
    assert fit.digest == expected
    assert "No space left on device; the training goes on" in fit.text
    found = list_checkpoints(place)
    assert found
    assert verify_checkpoint(found[0]) == []


@pytest.mark.parametrize("warn", [False, True] if ALL else [False])
def test_a_disk_that_becomes_read_only(some_binaries, tmp_path, disk, expected, warn):
    """In the middle of a fit: it ends, or goes on without, as asked."""
    place = disk(8000)
    fit = Fit(some_binaries, 2, tmp_path, every=3, seconds=0.1, options=WARN if warn else ())
    fit.reach(7)
    # Another one over it: a disk with files that are open for writing cannot be made read-only.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)], check=True)
    if warn:
        assert fit.wait(END_SECONDS) == 0, fit.text
        assert fit.digest == expected
        assert "Read-only file system" in fit.text
    else:
        one_ends_the_fit(fit, "not written: OSError: [Errno 30] Read-only file system")
    subprocess.run(["umount", str(place)], check=True)
    found = list_checkpoints(place)
    assert found
    assert verify_checkpoint(found[0]) == []


def test_a_read_only_directory_is_refused_at_the_start(some_binaries, tmp_path, disk):
    """Before the first step, with its name."""
    place = disk(8000)
    remount(place, "ro")
    fit = Fit(some_binaries, 2, tmp_path)
    one_ends_the_fit(fit, "Read-only file system", str(place))
    assert fit.steps == []


@pytest.mark.skipif(os.geteuid() != 0, reason="another user takes root")
def test_a_directory_without_permission_is_refused_at_the_start(some_binaries, tmp_path):
    """Before the first step, with its name; root may write anywhere, so it gives that up."""
    place = tmp_path / "checkpoints"
    place.mkdir()
    # No capability to pass over permissions is left.
    launch = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    place.chmod(0o500)
    fit = Fit(some_binaries, 2, tmp_path, before=launch)
    one_ends_the_fit(fit, "Permission denied", str(place))
    assert fit.steps == []


@pytest.mark.parametrize("warn", [False, True] if ALL else [False])
def test_a_directory_that_vanishes(some_binaries, tmp_path, expected, warn):
    """With its checkpoints: the fit ends and names it, or makes it anew."""
    fit = Fit(some_binaries, 2, tmp_path, every=4, seconds=0.1, options=WARN if warn else ())
    fit.reach(9)
    shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
    (tmp_path / "checkpoints").write_text("a file in its place")
    if warn:
        assert fit.wait(END_SECONDS) == 0, fit.text
        assert fit.digest == expected
        assert "; the training goes on" in fit.text
    else:
        one_ends_the_fit(fit, "checkpoint of step", "not written", str(tmp_path / "checkpoints"))


def test_a_slow_disk_does_not_hold_up_steps(some_binaries, tmp_path, expected):
    """Writes that take their time are made beside the steps; all are there in the end."""
    fit = Fit(some_binaries, 2, tmp_path, every=100, seconds=0.05, options={"DISTDL_TEST_SLOW_WRITE": "0.4"})
    assert fit.wait(40) == 0, fit.text
    assert fit.digest == expected
    first = fit.text.split("write begins")[1].split("write ends")[0]
    assert first.count("step ") > 2, fit.text
    assert [verify_checkpoint(path) for path in list_checkpoints(fit.checkpoints)] == [[], [], []]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def make_stale(path):
    """Exchange a manifest for that of another checkpoint."""
    older = path.parent.parent / "checkpoint-0000000005" / path.name
    path.write_bytes(older.read_bytes())


DAMAGES = {
    "a file is missing": ("model.safetensors", lambda path: path.unlink(), "no such file"),
    "a file is short": ("optimizer.safetensors", cut, "bytes where the manifest says"),
    "a bit is flipped": ("state.json", flip, "does not have the SHA-256"),
    "no manifest": ("manifest.json", lambda path: path.unlink(), "no such file"),
    "a stale manifest": ("manifest.json", make_stale, "manifest says"),
    "a manifest is cut": ("manifest.json", cut, "not JSON"),
}


@pytest.mark.parametrize("name", list(DAMAGES)[:: 1 if ALL else 2])
def test_a_damaged_newest_checkpoint_is_told_and_the_one_before_is_taken(some_binaries, tmp_path, expected, name):
    """The fit ends with the same bits; `distdl checkpoint verify` finds the damage too."""
    fit = Fit(some_binaries, 2, tmp_path, every=5, seconds=0.05)
    fit.reach(17)
    fit.kill()
    newest = list_checkpoints(fit.checkpoints)[0]
    file, damage, said = DAMAGES[name]
    damage(newest / file)
    words = [str(some_binaries / "python"), "-m", "distdl", "checkpoint", "verify", str(fit.checkpoints)]
    verified = subprocess.run(words, capture_output=True, text=True, check=False)
    assert verified.returncode == 1
    assert said in verified.stdout
    resumed = ends_well_on(some_binaries, tmp_path, expected, 3)
    assert "damaged checkpoint, the one before is taken" in resumed.text
    assert said in resumed.text
    assert resumed.steps[0] == int(newest.name[-10:]) - 4
    assert resumed.steps[-1] == STEPS


def test_the_run_of_a_checkpoint_is_told(some_binaries, tmp_path):
    """`distdl checkpoint show` says of which model, optimizer, sizes and versions it is."""
    fit = Fit(some_binaries, 1, tmp_path)
    assert fit.wait() == 0, fit.text
    newest = list_checkpoints(fit.checkpoints)[0]
    words = [str(some_binaries / "python"), "-m", "distdl", "checkpoint", "show", str(newest)]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    for said in ("model: Sequential", "optimizer: SGD", "batch_size: 16", "ranks: 1", "numpy: "):
        assert said in text, text
    assert json.loads((newest / "state.json").read_text())["configuration"]["loss"] == "CrossEntropyLoss"
