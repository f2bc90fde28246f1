"""The control channel: hub and links in one process."""

import contextlib
import socket
import threading

import pytest

from distdl.comm import control
from distdl.comm.control import Hub, Link

TOKEN = "a secret"
PATIENCE = 10.0


class Log:
    """What was heard, in order; `wait` blocks until so much was, `wait_for` until certain items were."""

    def __init__(self):
        self.items = []
        self._changed = threading.Condition()

    def __call__(self, *item):
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def wait(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.items) >= count, PATIENCE), self.items
            return list(self.items)

    def wait_for(self, *items):
        with self._changed:
            assert self._changed.wait_for(lambda: set(items) <= set(self.items), PATIENCE), self.items
            return list(self.items)


@pytest.fixture
def hub():
    """A hub that answers questions with their own text, and logs the rest."""
    heard, lost = Log(), Log()

    def on_message(rank, message):
        if "number" in message and message["kind"] == "echo":
            hub.send(rank, {"answer": message["number"], "text": message["text"]})
        heard(rank, message)

    hub = Hub("127.0.0.1", 0, TOKEN, 3, on_message, lost)
    hub.heard, hub.lost = heard, lost
    yield hub
    hub.close()


@pytest.fixture
def link(hub):
    """Make links to the hub, and close them afterwards."""
    links = []

    def make(rank, token=TOKEN):
        heard, lost = Log(), Log()
        made = Link([("127.0.0.1", hub.port)], token, rank, heard, lost)
        made.heard, made.lost = heard, lost
        links.append(made)
        return made

    yield make
    for made in links:
        made.close()


def test_messages_go_both_ways(hub, link):
    """The hub knows who speaks, and what it says to all reaches all, in order."""
    links = [link(rank) for rank in range(3)]
    links[1].send({"kind": "hello there", "é": [1, None]})
    assert hub.heard.wait(1) == [(1, {"kind": "hello there", "é": [1, None]})]
    hub.broadcast({"kind": "first"})
    hub.broadcast({"kind": "second"})
    for one in links:
        assert one.heard.wait(2) == [({"kind": "first"},), ({"kind": "second"},)]


def test_long_messages_arrive_whole(hub, link):
    """A message is a line, however many pieces the network makes of it."""
    link(0).send({"kind": "long", "text": "x" * 1_000_000})
    assert len(hub.heard.wait(1)[0][1]["text"]) == 1_000_000


def test_questions_are_answered(link):
    """Each question gets its own answer, from whatever thread it is asked."""
    one, answers = link(0), Log()

    def ask(text):
        answers(text, one.ask({"kind": "echo", "text": text}, PATIENCE)["text"])

    threads = [threading.Thread(target=ask, args=(f"question {i}",)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(question == answer for question, answer in answers.items)


def test_no_answer_in_time_is_none(hub, link):
    """A question that nobody answers does not hang; an answer that comes too late is dropped."""
    one = link(0)
    assert one.ask({"kind": "silence"}, 0.05) is None
    hub.send(0, {"answer": 0})
    assert one.ask({"kind": "echo", "text": "still there"}, PATIENCE)["text"] == "still there"
    assert one.heard.items == []


def test_a_closed_link_is_reported_once(hub, link):
    """The hub says whose link has closed; the rank itself meant it, and hears nothing."""
    one, two = link(1), link(2)
    one.close()
    assert hub.lost.wait(1) == [(1,)]
    hub.send(1, {"kind": "nobody there"})
    two.send({"kind": "still here"})
    assert hub.heard.wait(1) == [(2, {"kind": "still here"})]
    assert one.lost.items == []


def test_a_hub_that_goes_is_reported(hub, link):
    """Links hear that the hub has gone; then questions get no answer, at once."""
    one = link(1)
    hub.close()
    one.lost.wait(1)
    assert one.ask({"kind": "echo", "text": ""}, PATIENCE) is None


def test_strangers_are_refused(hub, link):
    """A wrong token, a rank that is none, and a rank that is there already are turned away; nobody is reported lost."""
    link(1)
    for rank, token in ((0, "a guess"), (3, TOKEN), (-1, TOKEN), ("0", TOKEN), (1, TOKEN)):
        with pytest.raises(ConnectionError):
            link(rank, token)
    assert hub.lost.items == []


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"[1, 2]\n", b"\xff\n", b"x" * (control.HELLO_BYTES + 1)])
def test_other_languages_are_refused(hub, link, data):
    """What is no message, or too long for a stranger, closes the connection and harms nobody."""
    with socket.create_connection(("127.0.0.1", hub.port), PATIENCE) as stranger:
        stranger.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(1) == b""
    link(0).send({"kind": "fine"})
    assert hub.heard.wait(1) == [(0, {"kind": "fine"})]


def test_addresses_are_tried_in_turn(hub):
    """The first address that leads to the hub is taken; if none does, the error lists them."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    link = Link([("127.0.0.1", port), ("127.0.0.1", hub.port)], TOKEN, 0, Log(), Log())
    link.close()
    with pytest.raises(ConnectionError, match=f"127.0.0.1:{port}: "):
        Link([("127.0.0.1", port)], TOKEN, 0, Log(), Log())
    with pytest.raises(ConnectionError, match="no address"):
        Link([], TOKEN, 0, Log(), Log())
