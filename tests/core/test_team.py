"""The threads of a rank share work, and what they give does not depend on which is faster."""

import threading
import time

import pytest

from distdl.core import team, threads

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
