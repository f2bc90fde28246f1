"""What one rank tells of its waiting: that it is stuck in a collective, and on request what it does instead.

A thread looks now and then where this rank is. MPI cannot tell: it makes no progress for a rank that is stuck.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..core import activity, settings
from ..core.places import main_frame, stack, users_place

if TYPE_CHECKING:
    from .control import Link, Message
    from .leaving import Leaving
    from .mpi import MPICommunicator

TOLD_SECONDS = 1.0
"""How long a rank waits before it tells so."""

POLL_SECONDS = 0.25
ANSWER_SECONDS = 1.0
"""How long the hub may take to answer, before it counts as stopped."""


class Waiting:
    """Tells the hub where this rank waits; and everybody, if the hub does not answer.

    Args:
        leaving: of this rank.
        places: for each rank where it runs.
    """

    def __init__(self, leaving: Leaving, places: list[str]) -> None:
        self._leaving = leaving
        self._places = places
        self._warn_after = settings.stall_warning()
        self._timeout = settings.stall_timeout()
        self._told: dict[str, int] = {}
        self._next_warning: dict[str, float] = {}
        self._with_stack = settings.stall_traces()
        threading.Thread(target=self._watch, name="distdl-waiting", daemon=True).start()

    def report(self) -> Message:
        """Return what this rank is doing."""
        frame = main_frame()
        return {
            "kind": "report",
            "place": str(users_place(frame) or "its end"),
            "activity": activity.current(),
            "stack": stack(frame) if self._with_stack else "",
        }

    def _watch(self) -> None:
        while (link := self._leaving.link) is not None:
            time.sleep(POLL_SECONDS)
            now = time.monotonic()
            for part in list(self._leaving.world.family):
                self._tell(link, part.name, part.since, now, functools.partial(_collective, part))
                peer_since = part.peer_since if part.peer >= 0 else 0.0
                self._tell(link, f"{part.name} message", peer_since, now, functools.partial(_message, part))

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
        message |= {"kind": "waits", "part": name, "place": str(users_place(main_frame()))}
        if began != message["number"]:
            self._told[name] = message["number"]
            self._next_warning[name] = self._warn_after
            link.send({**message, "seconds": now - since})
        elif now - since > self._next_warning[name]:
            self._check_hub(link, message, now - since)

    def _check_hub(self, link: Link, message: Message, seconds: float) -> None:
        """Speak for the hub, which warns of stalls, if rank 0 is itself stuck: the first of the others does."""
        self._next_warning[message["part"]] = 2 * seconds
        if min(rank for rank in message["members"] if rank) != self._leaving.world.rank:
            return
        if link.ask({"kind": "are you there"}, ANSWER_SECONDS) is None and self._leaving.link is not None:
            news = (
                f"rank 0 ({self._places[0]}) does not answer: stopped, or out of reach; "
                f"this rank waits in {message['what']}, at {message['place']}, for {seconds:.0f} s"
            )
            if seconds > self._timeout:
                self._leaving.end(1, news + "; the job ends", ask=False)
            print(f"distdl: rank {self._leaving.world.rank}: {news}", file=sys.stderr, flush=True)


def _collective(part: MPICommunicator) -> Message | None:
    since, call = part.since, part.call
    if call is None or not since or part.since != since:
        return None
    return {
        "number": call.number,
        "signature": call.signature,
        "what": str(call),
        "members": list(part.members),
    }


def _message(part: MPICommunicator) -> Message | None:
    peer = part.peer
    if peer < 0:
        return None
    me = part.members[part.rank]
    return {
        # The time tells this message from the next.
        "number": int(part.peer_since * 1000),
        "signature": 0,
        "what": part.peer_call,
        "members": [me, peer],
    }
