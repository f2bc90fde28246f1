"""Who waits for whom, as rank 0 sees it: without processes, with a clock that is turned by hand."""

import pytest

from distdl.comm.stalls import Stalls

PLACES = [f"host{rank}, process {rank}" for rank in range(4)]


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Hub:
    """Notes what is sent."""

    def __init__(self):
        self.sent = []

    def send(self, rank, message):
        self.sent.append((rank, message["kind"]))


@pytest.fixture
def stalls(monkeypatch):
    monkeypatch.setenv("DISTDL_STALL_WARNING", "5")
    monkeypatch.setenv("DISTDL_STALL_TIMEOUT", "60")
    ends, clock = [], Clock()
    stalls = Stalls(PLACES, ends.append, clock)
    stalls.hub, stalls.ends, stalls.clock = Hub(), ends, clock
    return stalls


def waits(stalls, rank, number=7, signature=1, part="world", members=(0, 1, 2, 3), what="barrier", seconds=1.0):
    message = {"kind": "waits", "part": part, "number": number, "signature": signature, "what": what}
    stalls.on_message(rank, {**message, "members": list(members), "place": f"a.py:{rank}", "seconds": seconds})


def pass_time(stalls, seconds):
    for _ in range(round(seconds * 4)):
        stalls.clock.now += 0.25
        stalls.on_tick()


def reports(stalls, rank, activity="", stack="", waits=(), is_main=False):
    message = {"kind": "report", "place": "b.py:5 in load", "activity": activity, "stack": stack}
    stalls.on_message(rank, {**message, "waits": [list(wait) for wait in waits], "is_main": is_main})


def pass_time_answering(stalls, seconds):
    """Let time pass in which all ranks answer."""
    for _ in range(round(seconds * 4)):
        pass_time(stalls, 0.25)
        for rank in range(4):
            reports(stalls, rank)


def goes_on(stalls, *ranks):
    for rank in ranks:
        stalls.on_message(rank, {"kind": "goes on", "part": "world"})


def test_a_late_rank_is_asked_and_named(stalls, capfd):
    """With what it does; when it is back that is told, and such a wait is usual from then on."""
    for rank in (0, 1, 3):
        waits(stalls, rank)
    pass_time(stalls, 3)
    assert stalls.hub.sent == []
    pass_time(stalls, 1)
    assert stalls.hub.sent == [(2, "what do you do"), (0, "what do you do")]
    reports(stalls, 2)
    reports(stalls, 0, waits=[("world", 7)], is_main=True)
    pass_time(stalls, 0.25)
    error = capfd.readouterr().err
    assert "rank 2 keeps ranks 0, 1, 3 waiting for 5 s in barrier, at a.py:0 (collective 7 of 'world')" in error
    assert "rank 2 (host2, process 2) is at b.py:5 in load" in error
    goes_on(stalls, 0, 1, 3)
    pass_time(stalls, 0.25)
    assert "is over, after 6 s" in capfd.readouterr().err
    waits(stalls, 0, number=8)
    pass_time_answering(stalls, 15)
    assert capfd.readouterr().err == ""
    pass_time_answering(stalls, 6)
    assert "keep" in capfd.readouterr().err
    assert stalls.ends == []


def test_one_that_stops_is_told_although_waits_are_usual(stalls, capfd):
    """What has been late before may still be stopped now."""
    waits(stalls, 0, members=(0, 1))
    pass_time(stalls, 4)
    reports(stalls, 0)
    reports(stalls, 1)
    pass_time(stalls, 30)
    goes_on(stalls, 0)
    pass_time(stalls, 1)
    capfd.readouterr()
    waits(stalls, 0, number=8, members=(0, 1))
    pass_time(stalls, 7)
    assert "rank 1 (host1, process 1) does not answer: stopped" in capfd.readouterr().err


def test_one_that_does_not_answer_counts_as_stopped(stalls, capfd):
    """And again each time that the wait has doubled, up to the time-out."""
    waits(stalls, 0, members=(0, 1))
    pass_time(stalls, 7)
    assert "rank 1 (host1, process 1) does not answer: stopped" in capfd.readouterr().err
    pass_time(stalls, 2)
    assert capfd.readouterr().err == ""
    pass_time(stalls, 51)
    assert capfd.readouterr().err.count("does not answer") >= 3
    assert stalls.ends == []
    pass_time(stalls, 3)
    (end,) = stalls.ends
    assert "the time-out of 60 s (DISTDL_STALL_TIMEOUT) ends the job" in end


def test_one_that_stops_within_a_collective_is_named(stalls, capfd):
    """All have told that they wait there; then one does not answer."""
    for rank in range(4):
        waits(stalls, rank)
    pass_time(stalls, 4.25)
    for rank in (0, 1, 3):
        reports(stalls, rank, waits=[("world", 7)], is_main=True)
    pass_time(stalls, 1.25)
    assert "rank 2 keeps ranks 0, 1, 3 waiting" in capfd.readouterr().err


def test_a_collective_that_hangs_ends_the_job(stalls, capfd):
    """All are there and answer: nobody is warned, but the time-out holds."""
    for rank in range(4):
        waits(stalls, rank)
    pass_time_answering(stalls, 58)
    assert capfd.readouterr().err == ""
    pass_time_answering(stalls, 4)
    (end,) = stalls.ends
    assert "nobody keeps" in end
    assert "which hangs" in end


def test_whoever_waits_in_an_earlier_call_is_late(stalls, capfd):
    """Two are in the next collective already: the one that is not, and the one that is stopped, are asked."""
    for rank in (0, 2):
        waits(stalls, rank, number=8)
    waits(stalls, 1, number=7)
    pass_time(stalls, 4.25)
    assert [rank for rank, _ in stalls.hub.sent] == [1, 3, 0]
    reports(stalls, 1, waits=[("world", 7)], is_main=True)
    reports(stalls, 0, waits=[("world", 8)], is_main=True)
    pass_time(stalls, 1.25)
    error = capfd.readouterr().err
    assert "ranks 1, 3 keep ranks 0, 2 waiting" in error
    assert "rank 3 (host3, process 3) does not answer" in error
    assert stalls.ends == []


def test_compiling_is_no_stall(stalls, capfd):
    waits(stalls, 0, members=(0, 1))
    pass_time(stalls, 4.25)
    reports(stalls, 0)
    reports(stalls, 1, activity="compiling kernels, once")
    pass_time(stalls, 0.5)
    assert capfd.readouterr().err == ""


def test_traces_are_shown(stalls, capfd):
    waits(stalls, 0, members=(0, 1))
    pass_time(stalls, 4.25)
    reports(stalls, 0)
    reports(stalls, 1, stack='  File "b.py", line 5, in load\n')
    pass_time(stalls, 0.5)
    assert 'File "b.py", line 5' in capfd.readouterr().err


def test_different_calls_end_the_job_at_once(stalls):
    """Once, whoever else comes."""
    waits(stalls, 0)
    waits(stalls, 1, signature=2, what="allreduce of float32 (3,)")
    waits(stalls, 2)
    (end,) = stalls.ends
    assert "rank 0: barrier, at a.py:0; rank 1: allreduce of float32 (3,), at a.py:1" in end


def test_the_next_call_is_another(stalls):
    """Ranks at different numbers are not compared: one is late."""
    waits(stalls, 0, number=7)
    waits(stalls, 1, number=8, signature=2)
    assert stalls.ends == []


@pytest.mark.parametrize(("is_main", "still"), [(True, True), (False, True), (True, False)])
def test_ranks_that_wait_for_each_other_are_named(stalls, is_main, still):
    """In two communicators, each for the other; if their main threads do, and still do when they are asked."""
    waits(stalls, 0, members=(0, 1))
    waits(stalls, 1, part="world/1.0", members=(0, 1), what="allreduce")
    pass_time(stalls, 4.25)
    reports(stalls, 0, waits=[("world", 7)], is_main=True)
    reports(stalls, 1, waits=[("world/1.0", 7)] if still else [], is_main=is_main)
    pass_time(stalls, 0.25)
    assert len(stalls.ends) == (is_main and still)
    if stalls.ends:
        assert "wait for each other: rank 0 in barrier, at a.py:0, for rank 1; rank 1 in allreduce" in stalls.ends[0]


@pytest.mark.parametrize("how", ["send to", "receive from"])
def test_a_long_message_is_no_deadlock(stalls, how):
    """One sends and the other receives; both sending, or both receiving, is one."""
    parts = [f"world, messages of rank {rank}" for rank in (0, 1)]
    waits(stalls, 0, number=1, part=parts[0], members=(0, 1), what="receive from rank 1")
    waits(stalls, 1, number=1, part=parts[1], members=(1, 0), what=f"{how} rank 0")
    pass_time(stalls, 4.25)
    for rank in (0, 1):
        reports(stalls, rank, waits=[(parts[rank], 1)], is_main=True)
    pass_time(stalls, 0.5)
    assert len(stalls.ends) == (how == "receive from")


def test_a_rank_that_has_left_is_known_elsewhere(stalls, capfd):
    """`leaving` names it; those that still work are asked only whether they answer."""
    waits(stalls, 0, members=(0, 1))
    stalls.on_message(1, {"kind": "left", "counts": {}})
    pass_time_answering(stalls, 70)
    assert (stalls.ends, capfd.readouterr().err) == ([], "")


def test_a_rank_that_stops_while_others_have_finished_is_named(stalls, capfd):
    """They wait for its end."""
    for rank in (0, 1, 2):
        stalls.on_message(rank, {"kind": "left", "counts": {}})
    pass_time(stalls, 7)
    error = capfd.readouterr().err
    assert "rank 3 keeps" in error
    assert "rank 3 (host3, process 3) does not answer" in error
    pass_time(stalls, 60)
    assert len(stalls.ends) == 1


def test_nobody_is_warned_where_it_is_turned_off(monkeypatch, capfd):
    monkeypatch.setenv("DISTDL_STALL_WARNING", "0")
    monkeypatch.setenv("DISTDL_STALL_TIMEOUT", "0")
    clock = Clock()
    stalls = Stalls(PLACES, None, clock)
    stalls.hub, stalls.clock = Hub(), clock
    waits(stalls, 0)
    pass_time(stalls, 100)
    assert capfd.readouterr().err == ""
    assert stalls.hub.sent == []
