"""The protocol of leaving, in one process: three ranks of which none really ends."""

import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from distdl.comm import leaving as leaving_module
from distdl.comm.control import Hub, Link
from distdl.comm.hooks import INTERRUPTED, Hooks
from distdl.comm.leaving import Leaving, Referee, as_ranges
from tests.comm.test_control import PATIENCE, Log
from tests.jobs.launching import wait_for


class Rank(Leaving):
    """A rank that notes how it would have ended."""

    def __init__(self, rank, size, world):
        super().__init__(world, [f"host, process {n}" for n in range(size)])
        self.left = threading.Event()

    def _exit(self, code):
        self.world.ends(self.world.rank, "exit", code)

    def depart(self):
        """Leave in a thread of its own, since it waits for the others."""
        threading.Thread(target=lambda: (self.leave(), self.left.set()), daemon=True).start()


def make_world(rank, size, ends):
    world = SimpleNamespace(rank=rank, size=size, ends=ends, collectives=0, call="allreduce", peer=-1)
    world.name, world.members, world.family = "world", tuple(range(size)), [world]

    world.abort = lambda code: ends(rank, "abort", code)
    return world


@pytest.fixture
def ranks(monkeypatch):
    """Three ranks with a hub, and the log of their ends."""
    for name in ("FORWARD_SECONDS", "POLL_SECONDS", "MESSAGE_SECONDS"):
        monkeypatch.setattr(leaving_module, name, 0.01)
    monkeypatch.setattr(leaving_module, "LINGER_SECONDS", 0.3)
    monkeypatch.setattr(leaving_module, "ANSWER_SECONDS", PATIENCE)
    ends = Log()
    ranks = [Rank(rank, 3, make_world(rank, 3, ends)) for rank in range(3)]
    referee = Referee(3, ranks[0].on_death)
    referee.hub = Hub("127.0.0.1", 0, "token", 3, referee.on_message, referee.on_lost)
    for number, rank in enumerate(ranks):
        rank.link = Link([("127.0.0.1", referee.hub.port)], "token", number, rank.on_message, rank.on_hub_lost)
        rank.ends, rank.hub, rank.referee = ends, referee.hub, referee
    yield ranks
    referee.disarm()
    for rank in ranks:
        rank._all_left.set()
        rank.link.close()
    referee.hub.close()


def test_all_leave_when_all_have(ranks):
    """A rank waits until the last has ended, and none sooner."""
    for rank in ranks[:2]:
        rank.depart()
    assert not ranks[0].left.wait(0.2)
    ranks[2].depart()
    assert all(rank.left.wait(PATIENCE) for rank in ranks)
    assert ranks[0].ends.items == []


def test_many_that_leave_cost_few_messages(monkeypatch):
    """Of 64 ranks that leave each hears of it a few times, in a few bytes, not once for each of the others."""
    size, heard = 64, [[] for _ in range(64)]
    referee = Referee(size, None)
    referee.hub = Hub("127.0.0.1", 0, "token", size, referee.on_message, referee.on_lost, referee.on_tick)
    links = [
        Link([("127.0.0.1", referee.hub.port)], "token", rank, heard[rank].append, lambda: None) for rank in range(size)
    ]
    for link in links[1:]:
        link.send({"kind": "left", "counts": {"world": 7, "world/3.0": 2}})
    time.sleep(0.6)
    assert {message["kind"] for messages in heard for message in messages} == {"left"}
    told = [span for messages in heard[:1] for message in messages for _, spans in message["groups"] for span in spans]
    assert {rank for first, last in told for rank in range(first, last + 1)} == set(range(1, size))
    links[0].send({"kind": "left", "counts": {"world": 7}})
    for messages in heard:
        wait_for(lambda messages=messages: {"kind": "all left"} in messages, PATIENCE)
        assert len(messages) <= 8
        assert len(str(messages)) < 1500
    referee.disarm()
    for link in links:
        link.close()
    referee.hub.close()


def test_neighbours_are_told_as_ranges():
    """Whatever the order in which they come."""
    assert as_ranges([5, 1, 2, 9, 3]) == [[1, 3], [5, 5], [9, 9]]
    assert as_ranges([]) == []


def test_the_first_with_bad_news_tells_it(ranks, capfd):
    """One rank prints and aborts with its code; one that comes later is silent; all end in the end."""
    ranks[1].end(5, "the news\n")
    ranks[2].end(1, "old news")
    ends = ranks[0].ends.wait_for((0, "exit", 5), (1, "exit", 5), (2, "exit", 5))
    assert [end for end in ends if end[1] == "abort"] == [(1, "abort", 5)]
    error = capfd.readouterr().err
    assert "rank 1 of 3 on " in error
    assert error.count("the news") == 1
    assert "old news" not in error


def test_a_rank_that_goes_on_alone_is_told(ranks, capfd):
    """Of a rank that has left after 3 collectives, the fourth waits in vain; three do not."""
    for rank in ranks:
        rank.world.collectives = 3
    ranks[1].depart()
    threading.Event().wait(0.2)
    assert ranks[0].ends.items == []
    ranks[2].world.collectives = 4
    assert ranks[0].ends.wait(1)[0] == (2, "abort", 1)
    assert (
        "rank 1 has finished, after 3 collectives of 'world', but collective 4 (allreduce) needs it"
        in capfd.readouterr().err
    )


def test_a_part_without_the_departed_goes_on(ranks):
    """Collectives of a part that the departed is no member of are none of its business."""
    part = SimpleNamespace(name="world/1.0", members=(0, 2), collectives=7, peer=-1)
    ranks[0].world.family.append(part)
    ranks[1].depart()
    threading.Event().wait(0.2)
    assert ranks[0].ends.items == []


def test_a_message_that_will_not_come_is_told(ranks, capfd):
    """A rank that receives from one that has left says so; a message under way is given time."""
    ranks[0].world.peer = 1
    ranks[1].depart()
    assert ranks[0].ends.wait(1)[0] == (0, "abort", 1)
    assert "waits for a message" in capfd.readouterr().err


def test_a_death_is_told_by_rank_0(ranks, capfd):
    """A link that closes without a word ends the job, and the dead rank and its place are named."""
    ranks[2].link.close()
    assert ranks[0].ends.wait(1)[0] == (0, "abort", 1)
    assert "rank 0 of 3" in (error := capfd.readouterr().err)
    assert "rank 2 (host, process 2) has died" in error


def test_a_death_while_the_job_ends_is_not_told(ranks, capfd):
    """A rank that dies with its bad news untold leaves ranks that end by themselves, silently."""
    assert ranks[2].link.ask({"kind": "bad news"}, PATIENCE)["first"]
    ranks[2].link.close()
    ranks[0].ends.wait_for((0, "exit", 1), (1, "exit", 1))
    assert capfd.readouterr().err == ""


def test_a_death_is_better_news_than_the_error_that_mpi_makes_of_it(ranks, capfd, monkeypatch):
    """A rank whose message to the dead fails is silent, though it notices first."""
    monkeypatch.setattr(leaving_module, "DEATH_SECONDS", 0.5)
    failing = threading.Thread(target=ranks[1].end, args=(1, "MPI error"), kwargs={"is_from_mpi": True})
    failing.start()
    ranks[2].link.close()
    assert ranks[0].ends.wait(1)[0] == (0, "abort", 1)
    failing.join()
    error = capfd.readouterr().err
    assert "rank 2 (host, process 2) has died" in error
    assert "MPI error" not in error


def test_the_death_of_rank_0_is_told_by_rank_1(ranks, capfd):
    """When the hub goes, rank 1 names rank 0 at once; others that live on do so later."""
    ranks[0].link._closed = True
    ranks[0].referee.disarm()
    ranks[0].hub.close()
    ends = ranks[0].ends.wait_for((1, "abort", 1), (2, "abort", 1))
    assert ends[0] == (1, "abort", 1)
    assert capfd.readouterr().err.count("rank 0 (host, process 0) has died") == 2


def test_without_a_link_a_rank_just_leaves(capfd, monkeypatch):
    """Where there is no control channel, leaving waits for nobody, and bad news is told unasked."""
    monkeypatch.setattr(leaving_module, "LINGER_SECONDS", 0.01)
    rank = Rank(0, 3, make_world(0, 3, Log()))
    rank.leave()
    rank.end(1, "the news")
    rank.world.ends.wait_for((0, "abort", 1), (0, "exit", 1))
    assert "the news" in capfd.readouterr().err


class Noted:
    """Stands for `Leaving`, and notes what hooks ask of it."""

    def __init__(self):
        self.calls = []

    def end(self, code, news, is_from_mpi=False):
        self.calls.append((code, news))
        self.is_from_mpi = is_from_mpi

    def leave(self):
        self.calls.append("left")


@pytest.fixture
def hooks():
    """Hooks that are not installed."""
    return Hooks(Noted())


def test_exceptions_end_the_job(hooks):
    """The news is the traceback; an interrupt has none."""
    try:
        raise ValueError("broken")
    except ValueError as error:
        hooks.on_exception(type(error), error, error.__traceback__)
    hooks.on_exception(KeyboardInterrupt, KeyboardInterrupt(), None)
    (code, news), interrupted = hooks._leaving.calls
    assert code == 1
    assert "Traceback" in news
    assert "ValueError: broken" in news
    assert interrupted == (INTERRUPTED, "interrupted")


def test_errors_of_mpi_are_known(hooks):
    """They may be what another rank's death looks like."""
    hooks.on_exception(ValueError, ValueError(), None)
    assert not hooks._leaving.is_from_mpi
    error = type("Exception", (RuntimeError,), {"__module__": "mpi4py.MPI"})
    hooks.on_exception(error, error(), None)
    assert hooks._leaving.is_from_mpi


def test_ctrl_c_while_others_go_on_ends_the_job(hooks, monkeypatch):
    """A rank that waits for the others to end can be interrupted."""

    def interrupted():
        raise KeyboardInterrupt

    hooks.on_end()
    monkeypatch.setattr(hooks._leaving, "leave", interrupted)
    hooks.on_end()
    assert hooks._leaving.calls == ["left", (INTERRUPTED, "interrupted")]


@pytest.mark.parametrize(
    ("status", "code", "news"),
    [
        (5, 5, "sys.exit(5)"),
        (True, 1, "sys.exit(1)"),
        (256, 1, "sys.exit(256)"),
        (-1, 255, "sys.exit(-1)"),
        ("x", 1, "x"),
    ],
)
def test_codes_of_sys_exit(hooks, status, code, news):
    """The job's code is what a shell would see of the rank's, but never 0."""
    with pytest.raises(SystemExit) as caught:
        hooks.exit(status)
    assert caught.value.code is status
    assert hooks._leaving.calls == [], "who catches it decides"
    hooks.on_exit(status)
    assert hooks._leaving.calls[0][0] == code
    assert news in hooks._leaving.calls[0][1]


@pytest.mark.parametrize("status", [None, 0, False])
def test_good_codes_are_left_alone(hooks, status):
    """sys.exit() and sys.exit(0) are what they always were."""
    with pytest.raises(SystemExit) as caught:
        hooks.exit(status)
    assert type(caught.value) is SystemExit


def test_forked_children_are_no_ranks(hooks, monkeypatch, capfd):
    """A child that inherits the hooks fails as any process does, and leaves nothing."""
    hooks._process = -1
    hooks.on_exception(ValueError, ValueError("in the child"), None)
    hooks.on_end()
    with pytest.raises(SystemExit) as caught:
        hooks.exit(5)
    assert type(caught.value) is SystemExit
    assert hooks._leaving.calls == []


def test_an_exit_that_nobody_catches_is_noticed():
    """Installed hooks hear of sys.exit(5) when the interpreter ends with it, after `finally`, and of the end itself."""
    program = (
        "import sys\nfrom distdl.comm.hooks import Hooks\n"
        "class Leaving:\n"
        "    def end(self, code, news): print(code, news, flush=True)\n"
        "    def leave(self): print('left', flush=True)\n"
        "Hooks(Leaving()).install()\n"
        "try:\n    sys.exit(5)\nexcept SystemExit:\n    print('caught')\n"
        "try:\n    sys.exit(6)\nfinally:\n    print('finally')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["caught", "finally", "6 sys.exit(6), the job ends", "left"]
    assert done.returncode == 6
