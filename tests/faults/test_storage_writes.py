"""A checkpoint's write that is broken off at any system call, by a kill or with the machine, harms nothing."""

import functools
import random
from collections import Counter

import pytest

from tests.faults import storage_writes
from tests.faults.storage_replay import TRACE, Replay, build
from tests.faults.storage_trace import STRACE, Traced, calls

pytestmark = [
    pytest.mark.skipif(STRACE is None, reason="strace is not installed (Debian: strace)"),
    # From Python 3.12 on: the child takes no lock that another thread might have held.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

MANY_CALLS = 80


@pytest.mark.parametrize("case", storage_writes.CASES)
def test_a_kill_at_every_system_call(tmp_path, case, capsys):
    """The next job finds the newest checkpoint whole: the new one, or the old one if its write had not returned."""

    def directory(name):
        storage_writes.prepare(tmp_path / name, case)
        return tmp_path / name

    target = directory("counted")
    whole = Traced(lambda told: storage_writes.write(target, case, told), [], tmp_path / "log")
    assert whole.told
    names, seen, killed = calls(tmp_path / "log"), Counter(), 0
    for number, name in enumerate(names):
        seen[name] += 1
        target = directory(f"killed-{number}")
        inject = ["-e", f"inject={name}:signal=SIGKILL:when={seen[name]}"]
        child = Traced(lambda told, target=target: storage_writes.write(target, case, told), inject, tmp_path / "log")
        killed += child.was_killed
        storage_writes.check(target, case, child.told)
    with capsys.disabled():
        print(f"\nkilled at {killed} of {len(names)} system calls of writing {case}")
    assert killed > MANY_CALLS
    # The last end the process anyway.
    assert killed >= len(names) - 2


POLICIES = 12
"""Of each moment so many states of the disk are drawn, beside the two in which all, or nothing, was kept."""


@pytest.mark.parametrize("case", storage_writes.CASES)
def test_a_crash_of_the_machine_at_every_call(tmp_path, case, capsys):
    """Whatever a disk lost that was not synced, the next job finds the newest checkpoint whole, as after a kill."""
    root = tmp_path / "disk"
    root.mkdir()
    storage_writes.prepare(root / "run", case)
    replay = Replay(root, tmp_path / "log")
    whole = Traced(lambda told: storage_writes.write(root / "run", case, told), TRACE, tmp_path / "log")
    assert whole.told
    states, lossy = 0, 0
    for number, crash in enumerate(replay.play()):
        lossy += not all(is_certain for _, is_certain in crash.changes)
        for keeps, content in losses(random.Random(f"{case} {number}")):
            disk = tmp_path / f"state-{states}"
            build(replay.start, crash, keeps, content, disk)
            storage_writes.check(disk / "run", case, crash.has_returned)
            states += 1
    assert crash.has_returned
    assert lossy > 5
    # The model knows what the calls have done.
    build(replay.start, crash, lambda change: True, lambda certain, written: written, tmp_path / "all")
    assert content_of(tmp_path / "all") == content_of(root)
    with capsys.disabled():
        print(f"\n{states} states of a disk after {number + 1} calls of writing {case}")


def content_of(directory):
    """Return all names below a directory, with what files hold and where links lead."""
    return {
        path.relative_to(directory): path.readlink() if path.is_symlink() else path.is_dir() or path.read_bytes()
        for path in directory.rglob("*")
    }


def losses(rng):
    """Yield what a disk may keep: of changes of names, and of a file's content."""
    yield (lambda change: True), (lambda certain, written: written)
    yield (lambda change: False), (lambda certain, written: certain)
    for _ in range(POLICIES):
        share = rng.random()
        yield (lambda change, share=share: rng.random() < share), functools.partial(torn, rng)


def torn(rng, certain, written):
    """Return the beginning of what was written, perhaps with zeros for the rest."""
    length = rng.randint(len(certain), len(written))
    return written[:length] + bytes(len(written) - length) * rng.randint(0, 1)
