"""How ranks leave: together, or the job ends.

MPI waits for ever for a rank that has gone. So no rank goes without a word over the control channel:

- Bad news (an uncaught exception, `sys.exit` with a code) is told by the first rank that has some, on
  standard error; then the whole job is aborted. Ranks that fail in its wake are silent.
- A rank that ends well says how many collectives it has begun in each communicator. A rank that has
  begun more than that in a communicator they share waits in vain: it names the departed and aborts.
  Otherwise the departed waits until all have ended, however long that takes, and MPI is finalized.
- A link that closes without a word is a death. Rank 0 names the dead (rank 1 names rank 0), and aborts.

Whoever ends the job tells the others over the channel too: they end by themselves if the launcher
does not end them.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from typing import Any

from .control import Hub, Link, Message
from .mpi import MPICommunicator
from .telling import tell

ANSWER_SECONDS = 1.0
"""How long a rank with bad news waits to hear whether it is the first."""

DEATH_SECONDS = 1.0
"""How long a death may take to be known by rank 0."""

FORWARD_SECONDS = 0.3
"""How long launchers are given to pass on what was printed: one that is told to end the job may drop it."""

LINGER_SECONDS = 3.0
"""How long a rank lives on after the job was aborted, if the launcher does not end it."""

TELL_SECONDS = 0.25
"""Between two messages about who has left."""

POLL_SECONDS = 0.1
MESSAGE_SECONDS = 2.0
"""How long a message from or to a rank that has finished may still be under way."""

Counts = dict[str, int]


class Referee:
    """What rank 0 knows of all ranks; lives in the hub's thread.

    Args:
        size: how many ranks there are.
        on_death: called with the rank that has died without a word.
    """

    def __init__(self, size: int, on_death: Any) -> None:
        self.hub: Hub | None = None
        self._present = set(range(size))
        self._on_death = on_death
        self._is_ending = False
        self._news: dict[str, tuple[Counts, list[int]]] = {}
        self._told_at = -math.inf

    def on_message(self, rank: int, message: Message) -> None:
        """Answer who is the first with bad news, and pass on who left and that the job ends."""
        assert self.hub is not None
        if message["kind"] == "bad news":
            first, self._is_ending = not self._is_ending, True
            self.hub.send(rank, {"answer": message["number"], "first": first})
        elif message["kind"] == "left":
            self._present.discard(rank)
            self._news.setdefault(str(message["counts"]), (message["counts"], []))[1].append(rank)
            self.on_tick()
        elif message["kind"] == "end":
            self._is_ending = True
            self.hub.broadcast(message)
        elif message["kind"] == "are you there":
            self.hub.send(rank, {"answer": message["number"]})

    def on_tick(self) -> None:
        """Pass on who has left: not for each rank, or n ranks would cost n * n messages, but some times a second."""
        now = time.monotonic()
        if self.hub is None or not self._news or (self._present and now - self._told_at < TELL_SECONDS):
            return
        if self._present:
            groups = [[counts, as_ranges(ranks)] for counts, ranks in self._news.values()]
            self.hub.broadcast({"kind": "left", "groups": groups})
        else:
            self.hub.broadcast({"kind": "all left"})
        self._news, self._told_at = {}, now

    def disarm(self) -> None:
        """Take no closing link for a death any more."""
        self._present.clear()

    def on_lost(self, rank: int) -> None:
        """Take a link that closes as a death, unless the rank has left."""
        if rank not in self._present:
            return
        self._present.discard(rank)
        if not self._is_ending:
            self._is_ending = True
            # The hub must go on: ending the job needs it.
            threading.Thread(target=self._on_death, args=(rank,), daemon=True).start()
        elif self.hub is not None:
            # It may be the rank with the bad news, and have died before it could end the job.
            self.hub.broadcast({"kind": "end", "code": 1})


class Leaving:
    """Watches over one job from one rank.

    Args:
        world: the communicator of all ranks.
        places: for each rank where it runs, such as "node7, process 123"; but on rank 0 that of rank 0 alone.
    """

    def __init__(self, world: MPICommunicator, places: list[str]) -> None:
        self.world = world
        self.departed: dict[int, Counts] = {}
        self.link: Link | None = None
        self.referee: Referee | None = None
        self._places = places
        self._all_left = threading.Event()
        self._ending = threading.Lock()
        self._watcher = threading.Thread(target=self._watch, name="distdl-leaving", daemon=True)

    def end(self, code: int, news: str, ask: bool = True, is_from_mpi: bool = False) -> None:
        """Tell the news if no other rank has told any, and end the job with the code; never returns.

        Args:
            code: the exit code of the job.
            news: what happened, in words that go on after "rank 1 of 3 on node: ".
            ask: whether another rank could have been first.
            is_from_mpi: whether MPI failed, as it may when another rank has died: that is the better news then.
        """
        if is_from_mpi:
            time.sleep(DEATH_SECONDS)
        if self._ending.acquire(blocking=False) and (not ask or self._is_first()):
            self._tell_and_abort(code, news)
        # Another thread or rank is ending the job, or an abort has returned: MPICH's may.
        time.sleep(LINGER_SECONDS)
        self._exit(code)

    def leave(self) -> None:
        """Tell the others that this rank is done, and wait until all are."""
        if self.link is None:
            return
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        counts = {part.name: part.collectives for part in self.world.family}
        if self.link.send({"kind": "left", "counts": counts}):
            self._all_left.wait()
        self.link.close()

    def on_message(self, message: Message) -> None:
        """Hear who has left, or that the job ends."""
        if message["kind"] == "end":
            # The news is told: that links close now is none.
            self._ending.acquire(blocking=False)
            self._exit_later(message["code"])
        elif message["kind"] == "all left":
            self._all_left.set()
        elif message["kind"] == "left":
            for counts, spans in message["groups"]:
                for first, last in spans:
                    self.departed.update(dict.fromkeys(range(first, last + 1), counts))
            if not self._watcher.is_alive():
                self._watcher.start()

    def on_death(self, rank: int) -> None:
        """Name a rank that has died, and end the job."""
        self.end(1, f"rank {rank} ({self._places[rank]}) has died: killed (out of memory?), or os._exit", ask=False)

    def on_stall(self, news: str) -> None:
        """End the job with the news of a wait that will not end; called by the hub, which must go on."""
        threading.Thread(target=self.end, args=(1, news), kwargs={"ask": False}, daemon=True).start()

    def on_hub_lost(self) -> None:
        """End the job, since rank 0 has died; rank 1 says so, or whoever is still there after a while."""
        if self._all_left.is_set():
            return
        if self.world.rank != 1:
            time.sleep(LINGER_SECONDS)
        self.on_death(0)

    def _tell_and_abort(self, code: int, news: str) -> None:
        where = f"rank {self.world.rank} of {self.world.size} on {os.uname().nodename}"
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        tell(f"{where}: {news.rstrip()}")
        if self.link is not None:
            self.link.send({"kind": "end", "code": code})
        time.sleep(FORWARD_SECONDS)
        self._exit_later(code)
        self.world.abort(code)

    def _is_first(self) -> bool:
        answer = self.link.ask({"kind": "bad news"}, ANSWER_SECONDS) if self.link else None
        # Rather told twice than never.
        return answer is None or bool(answer["first"])

    def _watch(self) -> None:
        while not self._all_left.wait(POLL_SECONDS):
            news = self._missing_collective() or self._missing_message()
            if news:
                self.end(1, news)

    def _missing_collective(self) -> str:
        for part in self.world.family:
            members = set(part.members)
            for rank, counts in list(self.departed.items()):
                count = counts.get(part.name, 0)
                if rank in members and part.collectives > count:
                    return (
                        f"rank {rank} has finished, after {count} collectives of {part.name!r}, but collective "
                        f"{part.collectives} ({part.call}) needs it: all ranks must take the same steps; "
                        "the job ends"
                    )
        return ""

    def _missing_message(self) -> str:
        for part in self.world.family:
            rank = part.peer
            if rank in self.departed:
                time.sleep(MESSAGE_SECONDS)
                if part.peer == rank:
                    return f"rank {rank} has finished, but this rank waits for a message from or to it; the job ends"
        return ""

    def _exit_later(self, code: int) -> None:
        timer = threading.Timer(LINGER_SECONDS, self._exit, (code,))
        timer.daemon = True
        timer.start()

    def _exit(self, code: int) -> None:
        os._exit(code)


def as_ranges(ranks: list[int]) -> list[list[int]]:
    """Return numbers as ranges [first, last], in rising order: few where many are neighbours."""
    found: list[list[int]] = []
    for rank in sorted(ranks):
        if found and found[-1][1] == rank - 1:
            found[-1][1] = rank
        else:
            found.append([rank, rank])
    return found
