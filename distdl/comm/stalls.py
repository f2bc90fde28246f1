"""`Stalls`: what rank 0 knows of ranks that wait, and whom they wait for; lives in the hub's thread.

Ranks that have waited for a second say so (`waiting.py`). Of two that wait in the same collective with different
signatures neither will ever go on: the job ends, and both are named. Where some have waited for long, those that are
missing there are asked what they do (all, if nobody is missing: the collective itself hangs). Late ranks are named in
a warning, and after a time-out the job ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from ..core import settings
from .contract import difference, ranks
from .control import Hub, Message
from .telling import tell

ANSWER_SECONDS = 1.0
"""How long a rank may take to say what it does, before it counts as stopped."""

_ASKED = 16
"""Of many ranks so many are asked at a time."""

_NAMED = 4
"""Of many late ranks it is told of so many what they do."""

_END = "end"
"""Stands for a communicator: those that wait there have finished."""


class Wait(NamedTuple):
    """A rank that waits in a collective, or for a message.

    Attributes:
        rank: who waits.
        part: name of the communicator; of messages a name of their own.
        number, signature, what: of the call, see `contract.Call`.
        members: the ranks that take part in it.
        place: line of the user's code.
        since: by the hub's clock.
    """

    rank: int
    part: str
    number: int
    signature: int
    what: str
    members: tuple[int, ...]
    place: str
    since: float


class _Case:
    """A call in which ranks wait for long, and what was done about it."""

    def __init__(self, waits: list[Wait], due: float):
        self.waits = waits
        self.due = due
        self.asked: list[int] = []
        self.asked_at = 0.0
        self.warned = False
        self.all_answered = True


class Stalls:
    """Collects who waits, warns, and ends the job.

    Args:
        places: for each rank where it runs.
        on_end: called with the news that end the job; must not wait.
        clock: gives seconds.
    """

    def __init__(
        self, places: list[str], on_end: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.hub: Hub | None = None
        self._places = places
        self._everybody = tuple(range(len(places)))
        self._firsts: dict[str, Wait] = {}
        self._on_end = on_end
        self._clock = clock
        self._warn_after = settings.stall_warning()
        self._timeout = settings.stall_timeout()
        self._waits: dict[tuple[int, str], Wait] = {}
        self._cases: dict[tuple[str, int], _Case] = {}
        self._usual: dict[str, float] = {}
        self._reports: dict[int, Message] = {}
        self._left: set[int] = set()
        self._is_over = False

    def on_message(self, rank: int, message: Message) -> None:
        """Take note of what a rank tells."""
        kind = message["kind"]
        if kind == "waits":
            fields = {name: message[name] for name in ("part", "number", "signature", "what", "place")}
            since = self._clock() - message["seconds"]
            members = tuple(message["members"]) or self._everybody
            wait = Wait(rank, members=members, since=since, **fields)
            self._waits[rank, wait.part] = wait
            self._compare(wait)
        elif kind == "goes on":
            self._waits.pop((rank, message["part"]), None)
        elif kind == "report":
            self._reports[rank] = message
        elif kind == "left":
            self._left.add(rank)
            self._waits[rank, _END] = Wait(rank, _END, 0, 0, "the end", self._everybody, "its end", self._clock())

    def on_tick(self) -> None:
        """Look whether somebody has waited for too long."""
        now = self._clock()
        groups = self._groups()
        for key in [key for key in self._cases if key not in groups]:
            self._close(self._cases.pop(key), now)
        for key, waits in groups.items():
            first = min(waits, key=lambda wait: wait.since)
            case = self._cases.setdefault(key, _Case(waits, self._warn_after))
            case.waits = waits
            missing = sorted(set(first.members) - {wait.rank for wait in waits})
            if first.part == _END:
                if missing:
                    self._look(case, first, missing, now)
            elif not self._left & set(missing):
                # Of those that have left, `leaving` knows.
                self._look(case, first, missing, now)

    def _groups(self) -> dict[tuple[str, int], list[Wait]]:
        """Return who waits in the last call of each communicator: whoever waits in one before it is late there."""
        last: dict[str, int] = {}
        for wait in self._waits.values():
            last[wait.part] = max(wait.number, last.get(wait.part, wait.number))
        groups: dict[tuple[str, int], list[Wait]] = {}
        for wait in self._waits.values():
            if wait.number == last[wait.part]:
                groups.setdefault((wait.part, wait.number), []).append(wait)
        return groups

    def _compare(self, wait: Wait) -> None:
        """End the job if another rank waits in the same collective with something else."""
        # With one that waits in this call: others that differ from it have ended the job.
        first = self._firsts.get(wait.part)
        if first is None or first.number != wait.number or self._waits.get((first.rank, first.part)) is not first:
            self._firsts[wait.part] = wait
        elif first.signature != wait.signature:
            calls = [other for other in self._waits.values() if (other.part, other.number) == (wait.part, wait.number)]
            told = difference([(other.rank, other.what, other.place) for other in calls])
            self._end(f"the ranks call different collectives (number {wait.number} of {wait.part!r}): {told}")

    def _look(self, case: _Case, first: Wait, missing: list[int], now: float) -> None:
        seconds = now - first.since
        if seconds < min(case.due, self._timeout):
            return
        assert self.hub is not None
        if not case.asked:
            # Those that wait are asked too whether they still do.
            case.asked = [*(missing or first.members)[:_ASKED], *([first.rank] if missing else [])]
            case.asked_at = now
            for rank in case.asked:
                self._reports.pop(rank, None)
                self.hub.send(rank, {"kind": "what do you do"})
        elif now - case.asked_at > ANSWER_SECONDS or all(rank in self._reports for rank in case.asked):
            self._judge(case, first, missing, seconds)
            case.asked, case.due = [], 2 * seconds

    def _judge(self, case: _Case, first: Wait, missing: list[int], seconds: float) -> None:
        silent = [rank for rank in case.asked if rank not in self._reports]
        late = [rank for rank in case.asked if rank in missing] or silent
        others = self._crossed(first, missing)
        if others is not None:
            self._end(
                f"ranks wait for each other: rank {first.rank} in {first.what}, at {first.place}, for rank "
                f"{others.rank}; rank {others.rank} in {others.what}, at {others.place}, for rank {first.rank}"
            )
            return
        waiting = sorted({wait.rank for wait in case.waits} - set(late))
        call = "" if first.part == _END else f" (collective {first.number} of {first.part!r})"
        doing = "; ".join(self._doing(rank) for rank in late[:_NAMED])
        news = (
            f"{ranks(missing or late) if missing or late else 'nobody'} keep{'s' * (len(missing or late) < 2)} "
            f"{ranks(waiting or [first.rank])} waiting for {seconds:.0f} s in {first.what}, at {first.place}{call}"
            + (f": {doing}" if doing else ", which hangs")
        )
        case.all_answered = case.all_answered and not silent
        if seconds >= self._timeout and (silent or first.part != _END):
            self._end(f"{news}; the time-out of {self._timeout:g} s (DISTDL_STALL_TIMEOUT) ends the job")
        elif silent or (late and first.part != _END and self._is_told(first, late, seconds)):
            case.warned = True
            tell(news)

    def _is_told(self, first: Wait, late: list[int], seconds: float) -> bool:
        """Say whether ranks that answer are named: not if they compile, nor where waiting so long has been usual."""
        if all(self._reports[rank]["activity"] for rank in late):
            return False
        return seconds >= self._usual.get(first.place, 0.0)

    def _doing(self, rank: int) -> str:
        who, report = f"rank {rank} ({self._places[rank]})", self._reports.get(rank)
        if report is None:
            return f"{who} does not answer: stopped, out of reach, or in code that holds Python's lock"
        doing = f"is {report['activity']}, " if report["activity"] else "is "
        stack = f", after\n{report['stack'].rstrip()}\n" if report["stack"] else ""
        return f"{who} {doing}at {report['place']}{stack}"

    def _crossed(self, first: Wait, missing: list[int]) -> Wait | None:
        """Return the wait of a missing rank for the first, in another communicator: neither will ever go on.

        Both must just have said that their main threads wait there; a background thread may wait for a main one.
        """
        for wait in self._waits.values():
            is_missed = wait.rank in missing and first.rank in wait.members and wait.part not in (first.part, _END)
            is_there = (first.rank, wait.part) in self._waits
            if (
                is_missed
                and not is_there
                and self._still(first)
                and self._still(wait)
                and not _is_transfer(first, wait)
            ):
                return wait
        return None

    def _still(self, wait: Wait) -> bool:
        report = self._reports.get(wait.rank)
        return report is not None and report["is_main"] and [wait.part, wait.number] in report["waits"]

    def _close(self, case: _Case, now: float) -> None:
        """Say that a stall that was told is over; where ranks were late but alive such waits count as usual."""
        if case.warned:
            first = min(case.waits, key=lambda wait: wait.since)
            seconds = now - first.since
            if case.all_answered:
                self._usual[first.place] = 2 * seconds
            tell(f"the wait at {first.place} is over, after {seconds:.0f} s")

    def _end(self, news: str) -> None:
        if not self._is_over:
            self._is_over = True
            self._on_end(news)


def _is_transfer(wait: Wait, other: Wait) -> bool:
    """Say whether one rank sends what the other receives, which may take long."""
    return {wait.what.split()[0], other.what.split()[0]} == {"send", "receive"}
