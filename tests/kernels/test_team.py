"""The threads of a rank share work, and what they give does not depend on which is faster."""

import subprocess
import sys
import threading
import time

import pytest

from distdl.core import threads
from distdl.kernels import team

WORTH = 1 << 30


@pytest.fixture
def three(monkeypatch):
    monkeypatch.setattr(threads, "_current", threads.Threads(3, "test"))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_parts_are_neighbours_and_cover_all(three, count):
    """The parts are in order, none is missed or taken twice, none is empty but that of nothing."""
    parts = team.each_part(lambda part: part, count, WORTH)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(count))
    assert len(parts) == max(1, min(3, count))


def test_results_come_in_order_whoever_is_first(three):
    """A first part that is slowest comes first."""

    def work(part):
        time.sleep(0.05 if part.start == 0 else 0)
        return part.start, threading.get_ident()

    results = team.each_part(work, 9, WORTH)
    assert [start for start, _ in results] == [0, 3, 6]
    assert results[0][1] == threading.get_ident()
    assert results[1][1] != threading.get_ident()


def test_small_work_wakes_nobody(three):
    """What costs little is done by the caller alone."""
    assert team.each_part(lambda part: part, 9, 1) == [slice(0, 9)]


@pytest.mark.parametrize("failing", [0, 3, 6])
def test_an_error_of_a_part_is_raised_after_all_have_ended(three, failing):
    """The caller gets the error of any part, and no part still runs then."""
    ended = []

    def work(part):
        if part.start == failing:
            raise ValueError(f"part {failing}")
        time.sleep(0.02)
        ended.append(part.start)

    with pytest.raises(ValueError, match=f"part {failing}"):
        team.each_part(work, 9, WORTH)
    assert sorted([*ended, failing]) == [0, 3, 6]


def test_threads_that_have_gone_to_sleep_wake(three):
    """Work that comes after a long pause is done, by the same threads."""

    def name(part):
        return threading.get_ident()

    before = team.each_part(name, 9, WORTH)
    time.sleep(0.1)
    assert team.each_part(name, 9, WORTH) == before


def test_a_caller_may_be_slower_or_faster_than_the_team(three):
    """Whoever waits, and however long, gets what the others give."""
    for slow in (0, 3, 6):
        starts = team.each_part(
            lambda part, slow=slow: (time.sleep(0.02 * (part.start == slow)), part.start)[1], 9, WORTH
        )
        assert starts == [0, 3, 6]


def test_two_callers_at_once_get_their_own_results(three):
    """The team works for one of them; the other does its parts alone."""
    results = {}

    def call(value):
        results[value] = [
            team.each_part(lambda part: (time.sleep(0.001), value * part.stop)[1], 9, WORTH) for _ in range(20)
        ]

    callers = [threading.Thread(target=call, args=(value,)) for value in (1, 10)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == {value: [[3 * value, 6 * value, 9 * value]] * 20 for value in (1, 10)}


@pytest.mark.parametrize("end", ["", "os._exit(0)", "os.fork() or team.each_part(lambda part: part, 9, 1 << 30)"])
def test_a_process_ends_well_while_the_team_waits(end):
    """At once, and without a word; a child of a fork makes a team of its own."""
    script = f"""
import os
from distdl.core import threads
from distdl.kernels import team
threads._current = threads.Threads(3, "test")
assert len(team.each_part(lambda part: part, 9, 1 << 30)) == 3
{end}
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")
    # Where nothing is cached yet, a line says that kernels are compiled.
    assert all(line.startswith("distdl: compiling") for line in ended.stderr.splitlines()), ended.stderr
