"""The control channel: a small TCP channel beside MPI.

MPI says nothing about a rank that is late, gone or stuck. So rank 0 runs a hub in a thread, and a
thread of each rank, rank 0 included, holds a link to it. Messages are dicts, sent as lines of
JSON. What they mean is not known here: see `leaving`.
"""

from __future__ import annotations

import contextlib
import hmac
import itertools
import json
import selectors
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Message = dict[str, Any]

CONNECT_SECONDS = 5.0
SEND_SECONDS = 2.0
"""A peer that does not read for so long (it may be stopped) misses the message."""

TICK_SECONDS = 0.25

LINE_BYTES = 1 << 24
_OTHER_DESCRIPTORS = 512
"""Beside links: of MPI, libraries, data and checkpoints."""

HELLO_BYTES = 1 << 10
"""What a stranger may send before it has shown the token."""


def _allow_descriptors(count: int) -> None:
    """Let this process have so many open files, where the system lets it: shells often say 1024."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < count:
            most = count if hard == resource.RLIM_INFINITY else min(count, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


class _Wire:
    """A socket on which messages come in and go out."""

    def __init__(self, connection: socket.socket, limit: int) -> None:
        self.socket = connection
        self.limit = limit
        self.rank = -1
        self._rest = b""
        self._lock = threading.Lock()
        connection.settimeout(SEND_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, message: Message) -> bool:
        """Send a message, and say whether it went out."""
        try:
            with self._lock:
                self.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def receive(self) -> list[Message]:
        """Wait for bytes, and return the messages that are complete.

        Raises:
            ConnectionError: the other side has closed, or does not speak our language.
        """
        data = self.socket.recv(1 << 16)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data or len(self._rest) > self.limit or any(len(line) > self.limit for line in lines):
            raise ConnectionError("line too long" if data else "closed")
        try:
            messages = [json.loads(line) for line in lines]
        except (RecursionError, ValueError) as error:
            raise ConnectionError("not JSON") from error
        if not all(isinstance(message, dict) for message in messages):
            raise ConnectionError("not a message")
        return messages


class Hub:
    """The meeting point of all links; its callbacks run in its thread, and must not wait for a link.

    Args:
        host, port: where to listen; port 0 lets the system choose, see `port`.
        token: the secret that a link must show.
        size: how many ranks there are.
        on_message: called with (rank, message).
        on_lost: called with the rank whose link has closed.
        on_tick: called some times a second.
    """

    def __init__(
        self,
        host: str,
        port: int,
        token: str,
        size: int,
        on_message: Callable[[int, Message], None],
        on_lost: Callable[[int], None],
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        _allow_descriptors(size + _OTHER_DESCRIPTORS)
        self._listener = socket.create_server((host, port), backlog=max(size, 16))
        self.port: int = self._listener.getsockname()[1]
        self._token = token
        self._size = size
        self._on_message = on_message
        self._on_lost = on_lost
        self._on_tick = on_tick
        self._wires: dict[int, _Wire] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="distdl-hub", daemon=True)
        self._thread.start()

    def send(self, rank: int, message: Message) -> None:
        """Send a message to one rank; nothing happens if it is gone."""
        if rank in self._wires:
            self._wires[rank].send(message)

    def broadcast(self, message: Message) -> None:
        """Send a message to all ranks, this process's own last: it may end when it has read it."""
        for rank in sorted(self._wires, reverse=True):
            self.send(rank, message)

    def close(self) -> None:
        """Close all links."""
        self._closed = True
        # Wakes the thread.
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname(), SEND_SECONDS).close()
        self._thread.join(CONNECT_SECONDS)

    def _serve(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select(TICK_SECONDS):
                if key.data is None:
                    self._accept()
                else:
                    self._read(key.data)
            self._on_tick()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            self._selector.register(connection, selectors.EVENT_READ, _Wire(connection, HELLO_BYTES))

    def _read(self, wire: _Wire) -> None:
        try:
            for message in wire.receive():
                if wire.rank < 0:
                    self._welcome(wire, message)
                else:
                    self._on_message(wire.rank, message)
        except OSError:
            self._selector.unregister(wire.socket)
            wire.socket.close()
            if wire.rank >= 0:
                del self._wires[wire.rank]
                self._on_lost(wire.rank)

    def _welcome(self, wire: _Wire, message: Message) -> None:
        rank, token = message.get("rank"), str(message.get("token"))
        known = hmac.compare_digest(token.encode(), self._token.encode())
        if not known or not isinstance(rank, int) or not 0 <= rank < self._size or rank in self._wires:
            raise ConnectionError("a stranger")
        wire.rank, wire.limit = rank, LINE_BYTES
        self._wires[rank] = wire
        wire.send({"kind": "welcome"})


class Link:
    """A rank's connection to the hub; its callbacks run in its thread, and must not `ask`.

    Args:
        addresses: (host, port) pairs to try in turn.
        token: the secret.
        rank: who this is.
        on_message: called with each message that is no answer.
        on_lost: called when the hub has gone, not after `close`.

    Raises:
        ConnectionError: the hub is at none of the addresses.
    """

    def __init__(
        self,
        addresses: Iterable[tuple[str, int]],
        token: str,
        rank: int,
        on_message: Callable[[Message], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._answers: dict[int, Message | None] = {}
        self._news = threading.Condition()
        self._numbers: Iterator[int] = itertools.count()
        self._closed = False
        self._early: list[Message] = []
        self._wire = self._connect(list(addresses), {"kind": "hello", "token": token, "rank": rank})
        self._thread = threading.Thread(target=self._listen, name="distdl-link", daemon=True)
        self._thread.start()

    def send(self, message: Message) -> bool:
        """Send a message to the hub, and say whether it went out."""
        return self._wire.send(message)

    def ask(self, message: Message, seconds: float) -> Message | None:
        """Send a message, and return the hub's answer; None if there is none in time."""
        number = next(self._numbers)
        with self._news:
            self._answers[number] = None
            if self._wire.send({**message, "number": number}):
                self._news.wait_for(lambda: self._answers[number] is not None or self._closed, seconds)
            return self._answers.pop(number)

    def close(self) -> None:
        """Hang up."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._wire.socket.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self._thread:
            self._thread.join(SEND_SECONDS)

    def _connect(self, addresses: list[tuple[str, int]], hello: Message) -> _Wire:
        reasons = []
        for address in addresses:
            connection = None
            try:
                connection = socket.create_connection(address, CONNECT_SECONDS)
                wire = _Wire(connection, LINE_BYTES)
                if wire.send(hello):
                    first, *self._early = wire.receive() or [{}]
                    if first == {"kind": "welcome"}:
                        connection.settimeout(None)
                        return wire
                raise ConnectionError("no welcome")
            except OSError as error:
                if connection is not None:
                    connection.close()
                reasons.append(f"{address[0]}:{address[1]}: {error}")
        raise ConnectionError("; ".join(reasons) or "no address")

    def _listen(self) -> None:
        try:
            for message in self._early:
                self._hear(message)
            while True:
                for message in self._wire.receive():
                    self._hear(message)
        except OSError:
            was_closed = self._closed
            with self._news:
                self._closed = True
                self._news.notify_all()
            self._wire.socket.close()
            if not was_closed:
                self._on_lost()

    def _hear(self, message: Message) -> None:
        number = message.get("answer")
        if number is None:
            self._on_message(message)
            return
        with self._news:
            # Nobody waits for an answer that came too late.
            if number in self._answers:
                self._answers[number] = message
                self._news.notify_all()
