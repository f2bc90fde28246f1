"""What one rank tells of its waiting: that it is stuck in a collective, and on request what it does instead.

A thread looks now and then where this rank is. MPI cannot tell: it makes no progress for a rank that is stuck.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..core import activity, settings
from ..core.places import is_below, main_frame, stack, users_place
from .telling import tell

if TYPE_CHECKING:
    from .control import Link, Message
    from .leaving import Leaving
    from .mpi import MPICommunicator

_HERE = os.path.dirname(__file__) + os.sep

_SPEAKING_SECONDS = 6.0
"""Between the first and the last of the ranks that warn where the hub does not."""

TOLD_SECONDS = 1.0
"""How long a rank waits before it tells so."""

POLL_SECONDS = 0.25
ANSWER_SECONDS = 1.0
"""How long the hub may take to answer, before it counts as stopped."""


class Waiting:
    """Tells the hub where this rank waits; and everybody, if the hub does not answer.

    Args:
        leaving: of this rank.
        places: for each rank where it runs; but on rank 0 that of rank 0 alone.
    """

    def __init__(self, leaving: Leaving, places: list[str]) -> None:
        self._leaving = leaving
        self._places = places
        self._warn_after = settings.stall_warning()
        self._timeout = settings.stall_timeout()
        self._told: dict[str, int] = {}
        self._next_check: dict[str, float] = {}
        self._with_stack = settings.stall_traces()
        threading.Thread(target=self._watch, name="distdl-waiting", daemon=True).start()

    def report(self) -> Message:
        """Return what this rank is doing."""
        frame = main_frame()
        waits = []
        for part in list(self._leaving.world.family):
            if part.since and part.call is not None:
                waits.append([part.name, part.call.number])
            if part.peer >= 0:
                waits.append([_message_name(part), _message_number(part)])
        return {
            "kind": "report",
            "place": str(users_place(frame) or "its end"),
            "activity": activity.current(),
            "stack": stack(frame) if self._with_stack else "",
            "waits": waits,
            "is_main": is_below(frame, _HERE),
        }

    def _watch(self) -> None:
        while (link := self._leaving.link) is not None:
            time.sleep(POLL_SECONDS)
            now = time.monotonic()
            for part in list(self._leaving.world.family):
                is_world = part.size == self._leaving.world.size
                self._tell(link, part.name, part.since, now, functools.partial(_collective, part, is_world))
                peer_since = part.peer_since if part.peer >= 0 else 0.0
                self._tell(link, _message_name(part), peer_since, now, functools.partial(_message, part))

    def _tell(self, link: Link, name: str, since: float, now: float, describe: Callable[[], Any]) -> None:
        """Tell the hub when this rank begins to wait, and when it goes on."""
        began = self._told.get(name)
        if not since or now - since < TOLD_SECONDS:
            if began is not None:
                del self._told[name]
                link.send({"kind": "goes on", "part": name})
            return
        message = describe()
        if message is None:
            return
        message |= {"kind": "waits", "part": name, "place": str(users_place(main_frame()) or "its end")}
        if began != message["number"]:
            self._told[name] = message["number"]
            self._next_check[name] = min(self._warn_after, self._timeout) + self._stagger(message["members"])
            link.send({**message, "seconds": now - since})
        elif now - since > self._next_check[name]:
            self._next_check[name] = min(2 * (now - since), max(self._timeout, now - since + ANSWER_SECONDS))
            self._check_hub(link, message, now - since)

    def _stagger(self, members: list[int]) -> float:
        """Return how much later than the first member this rank speaks, if the hub does not."""
        rank = self._leaving.world.rank
        return 2 * ANSWER_SECONDS * (sorted(members).index(rank) if members else rank)

    def _check_hub(self, link: Link, message: Message, seconds: float) -> None:
        """Speak for the hub, which warns of stalls, if rank 0 is itself stuck."""
        if link.ask({"kind": "are you there"}, ANSWER_SECONDS) is not None or self._leaving.link is None:
            return
        news = (
            f"rank 0 ({self._places[0]}) does not answer: stopped, or out of reach; "
            f"this rank waits in {message['what']}, at {message['place']}, for {seconds:.0f} s"
        )
        if seconds >= self._timeout:
            self._leaving.end(1, news + "; the job ends", ask=False)
        elif self._stagger(message["members"]) <= _SPEAKING_SECONDS:
            tell(f"rank {self._leaving.world.rank}: {news}")


def _collective(part: MPICommunicator, is_world: bool) -> Message | None:
    since, call = part.since, part.call
    if call is None or not since or part.since != since:
        return None
    return {
        "number": call.number,
        "signature": call.signature,
        "what": str(call),
        # Of everybody's thousands of numbers nobody needs thousands of copies.
        "members": [] if is_world else list(part.members),
    }


def _message_name(part: MPICommunicator) -> str:
    return f"{part.name}, messages of rank {part.members[part.rank]}"


def _message_number(part: MPICommunicator) -> int:
    # The time tells one message from the next.
    return int(part.peer_since * 1000)


def _message(part: MPICommunicator) -> Message | None:
    peer = part.peer
    if peer < 0:
        return None
    return {
        "number": _message_number(part),
        "signature": 0,
        "what": part.peer_call,
        "members": [part.members[part.rank], peer],
    }
