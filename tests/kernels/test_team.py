"""The threads of a rank share work, and what they give does not depend on which is faster."""

import contextlib
import gc
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from distdl.core import threads
from distdl.kernels import handover, team
from distdl.kernels.compile import jit
from distdl.kernels.spin import look, tell

WORTH = 1 << 30


@pytest.fixture
def three(monkeypatch):
    monkeypatch.setattr(threads, "_current", threads.Threads(3, "test"))


@jit
def meet(flags, mine):  # type: ignore[no-untyped-def]
    """Set a flag, and wait until all are set; flags far from each other."""
    tell(flags, 8 * mine, 1)
    for i in range(flags.size // 8):
        while look(flags, 8 * i) == 0:
            pass


@jit
def wait_for(flag, begun):  # type: ignore[no-untyped-def]
    """Say that this has begun, and wait until a flag is set."""
    tell(begun, 0, 1)
    while look(flag, 0) == 0:
        pass
    begun[0] = 2


@jit
def double(array):  # type: ignore[no-untyped-def]
    for i in range(array.size):
        array[i] += array[i]


@jit
def refuse(array):  # type: ignore[no-untyped-def]
    if array[0] > 0:
        raise ValueError("refused")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_parts_are_neighbours_and_cover_all(three, count):
    """The parts are in order, none is missed or taken twice, none is empty but that of nothing."""
    parts = team.each_part(lambda part: part.slice, count, WORTH)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(count))
    assert len(parts) == max(1, min(3, count))


def test_parts_are_done_at_the_same_time(three):
    """Each waits for the others; results are in the order of the parts."""
    flags = np.zeros(3 * 8, np.int64)

    def work(part):
        part.call(meet, flags, part.slice.start // 3)
        return part.slice.start

    assert team.each_part(work, 9, WORTH) == [0, 3, 6]
    assert (flags[::8] == 1).all()


def test_calls_of_a_part_follow_each_other(three):
    """Also more of them than can be handed over at once."""
    values = np.ones(9, np.int64)

    def work(part):
        for _ in range(3 * handover.CALLS):
            part.call(double, values[part.slice])

    team.each_part(work, 9, WORTH)
    assert (values == 2 ** (3 * handover.CALLS)).all()


def test_parts_have_their_own_working_memory(three):
    """And find it again."""

    def ask(part):
        return part.scratch("test parts", (16,), np.float32)

    rooms = team.each_part(ask, 9, WORTH)
    assert not any(np.shares_memory(rooms[i], rooms[j]) for i, j in [(0, 1), (0, 2), (1, 2)])
    assert all(a is b for a, b in zip(rooms, team.each_part(ask, 9, WORTH), strict=True))


def test_small_work_wakes_nobody(three):
    """What costs little is done by the caller alone, unless all is to be shared."""
    assert len(team.each_part(lambda part: part, 9, 1)) == 1
    with team.shared_by(2):
        assert len(team.each_part(lambda part: part, 9, 1)) == 2
    assert len(team.each_part(lambda part: part, 9, 1)) == 1


@pytest.mark.parametrize("failing", [0, 3, 6])
def test_an_error_is_raised_after_all_have_ended(three, failing):
    """Where a part cannot be prepared, those that were begun are done first."""
    values = np.ones(9, np.int64)

    def work(part):
        if part.slice.start == failing:
            raise ValueError(f"part {failing}")
        part.call(double, values[part.slice])

    with pytest.raises(ValueError, match=f"part {failing}"):
        team.each_part(work, 9, WORTH)
    # Those of the other threads come before the caller's own.
    begun = {0: [3, 6], 3: [], 6: [3]}[failing]
    assert [start for start in (0, 3, 6) if values[start] == 2] == begun


def test_a_kernel_that_fails_in_another_thread_is_told(three):
    """Once; work goes on after it."""
    for _ in range(2):
        with pytest.raises(RuntimeError, match="a kernel failed in a thread of its own"):
            team.each_part(lambda part: part.call(refuse, np.array([part.slice.start])), 9, WORTH)
        assert team.each_part(lambda part: part.slice.start, 9, WORTH) == [0, 3, 6]


def test_a_failure_is_told_of_its_own_work_only(three):
    """Where the caller's own part fails as well, its error is raised, and nothing is left for the next work."""
    with pytest.raises(ValueError, match="refused"):
        team.each_part(lambda part: part.call(refuse, np.array([1])), 9, WORTH)
    assert team.each_part(lambda part: part.slice.start, 9, WORTH) == [0, 3, 6]


def test_an_interrupt_leaves_what_still_runs_alone(three, monkeypatch):
    """What it writes to lives as long as that takes, and others take the next work."""
    flag = np.zeros(1, np.int64)

    def begin():
        begun, rooms = [np.zeros(1, np.int64) for _ in range(3)], []

        def work(part):
            rooms.append(part.scratch("test interrupt", (16,), np.float32))
            if part.slice.start:
                part.call(wait_for, flag, begun[part.slice.start // 3])

        def interrupt(*arguments):
            while not begun[1][0] == begun[2][0] == 1:
                time.sleep(0.001)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(handover, "is_done", interrupt)
            team.each_part(work, 9, WORTH)
        others = team.each_part(lambda part: part.scratch("test interrupt", (16,), np.float32), 9, WORTH)
        assert not any(np.shares_memory(room, other) for room in rooms for other in others)
        return [weakref.ref(array) for array in begun]

    arrays = begin()
    values = np.ones(9, np.int64)
    team.each_part(lambda part: part.call(double, values[part.slice]), 9, WORTH)
    assert (values == 2).all()
    gc.collect()
    assert [array()[0] for array in arrays] == [0, 1, 1]
    flag[0] = 1
    deadline = time.monotonic() + 60
    while any(array() is not None for array in arrays) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [array() for array in arrays] == [None] * 3


def test_threads_that_have_gone_to_sleep_wake(three):
    """Work that comes after a long pause is done, by the same threads."""
    values = np.ones(9, np.int64)
    for pause in (0, 0.1, 0.1):
        time.sleep(pause)
        team.each_part(lambda part: part.call(double, values[part.slice]), 9, WORTH)
    assert (values == 8).all()
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("distdl-team") >= 2
    team.each_part(lambda part: part.call(double, values[part.slice]), 9, WORTH)
    assert [thread.name for thread in threading.enumerate()] == names


def test_two_callers_at_once_get_their_own_results(three):
    """The team works for one of them; the other does its parts alone."""
    ends = {}

    def call(value):
        values = np.full(9, value, np.int64)
        for _ in range(20):
            team.each_part(lambda part: (part.call(double, values[part.slice]), time.sleep(0.0005)), 9, WORTH)
        ends[value] = values.tolist()

    callers = [threading.Thread(target=call, args=(value,)) for value in (1, 10)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert ends == {value: [value << 20] * 9 for value in (1, 10)}


FORK = """
child = os.fork()
if child == 0:
    share()
else:
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize("end", ["", "os._exit(0)", FORK])
def test_a_process_ends_well_while_the_team_waits(end):
    """At once, and without a word; a child of a fork makes a team of its own."""
    script = f"""
import os
import numpy as np
from distdl.core import threads
from distdl.kernels import team
from distdl.kernels.add import add_vectors
threads._current = threads.Threads(3, "test")
a, b, c = np.ones((3, 9, 16), np.float32)
def share():
    c[:] = 0
    parts = team.each_part(lambda p: p.call(add_vectors, *(x[p.slice].reshape(-1) for x in (a, b, c))), 9, 1 << 30)
    assert len(parts) == 3 and (c == 2).all()
share()
{end}
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")
    # Where nothing is cached yet, a line says that kernels are compiled.
    assert all(line.startswith("distdl: compiling") for line in ended.stderr.splitlines()), ended.stderr
