"""A checkpoint's write that is broken off by a kill at any system call harms nothing."""

from collections import Counter

import pytest

from tests.faults import storage_writes
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
