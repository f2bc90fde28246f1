"""`Stalls`: what rank 0 knows of ranks that wait, and whom they wait for; lives in the hub's thread.

Ranks that have waited for a second say so (`waiting.py`). Of two that wait in the same collective with different
signatures neither will ever go on: the job ends, and both are named. Ranks that are missing where others have
waited for long are asked what they do: they are named in a warning, and after a time-out the job ends.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from ..core import settings
from .contract import difference, ranks
from .control import Hub, Message

ANSWER_SECONDS = 1.0
"""How long a rank may take to say what it does, before it counts as stopped."""

_NAMED = 4
"""Of many late ranks so many are asked."""


class Wait(NamedTuple):
    """A rank that waits in a collective, or for a message.

    Attributes:
        rank: who waits.
        part: name of the communicator.
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
    """A call that some ranks wait in for long, and what was done about it."""

    def __init__(self, waits: list[Wait], due: float):
        self.waits = waits
        self.due = due
        self.asked = 0.0
        self.warned = False


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
            wait = Wait(rank, members=tuple(message["members"]), since=since, **fields)
            self._waits[rank, wait.part] = wait
            self._compare(wait)
        elif kind == "goes on":
            self._waits.pop((rank, message["part"]), None)
        elif kind == "report":
            self._reports[rank] = message
        elif kind == "left":
            self._left.add(rank)

    def on_tick(self) -> None:
        """Look whether somebody has waited for too long."""
        now = self._clock()
        groups: dict[tuple[str, int], list[Wait]] = {}
        for wait in self._waits.values():
            groups.setdefault((wait.part, wait.number), []).append(wait)
        for key in [key for key in self._cases if key not in groups]:
            self._close(self._cases.pop(key), now)
        for key, waits in groups.items():
            first = min(waits, key=lambda wait: wait.since)
            due = max(self._warn_after, self._usual.get(first.place, 0.0))
            case = self._cases.setdefault(key, _Case(waits, due))
            case.waits = waits
            missing = sorted(set(first.members) - {wait.rank for wait in waits})
            # Of those that have left, `leaving` knows.
            if missing and not self._left & set(missing):
                self._look(case, first, missing, now)

    def _compare(self, wait: Wait) -> None:
        """End the job if another rank waits in the same collective with something else."""
        calls = [other for other in self._waits.values() if (other.part, other.number) == (wait.part, wait.number)]
        if any(other.signature != wait.signature for other in calls):
            told = difference([(other.rank, other.what, other.place) for other in calls])
            self._end(f"the ranks call different collectives (number {wait.number} of {wait.part!r}): {told}")

    def _look(self, case: _Case, first: Wait, missing: list[int], now: float) -> None:
        seconds = now - first.since
        if seconds < min(case.due, self._timeout):
            return
        crossed = self._crossed(first, missing)
        if crossed is not None:
            self._end(
                f"ranks wait for each other: rank {first.rank} in {first.what}, at {first.place}, for rank "
                f"{crossed.rank}; rank {crossed.rank} in {crossed.what}, at {crossed.place}, for rank {first.rank}"
            )
            return
        assert self.hub is not None
        if not case.asked:
            case.asked = now
            for rank in missing[:_NAMED]:
                self._reports.pop(rank, None)
                self.hub.send(rank, {"kind": "what do you do"})
        elif now - case.asked > ANSWER_SECONDS or all(rank in self._reports for rank in missing[:_NAMED]):
            case.asked, case.due = 0.0, 2 * seconds
            self._judge(case, first, missing, seconds)

    def _judge(self, case: _Case, first: Wait, missing: list[int], seconds: float) -> None:
        reports = [self._reports.get(rank) for rank in missing[:_NAMED]]
        waiting = sorted(wait.rank for wait in case.waits)
        doing = "; ".join(self._doing(rank, report) for rank, report in zip(missing, reports, strict=False))
        news = (
            f"{ranks(missing)} keep{'s' * (len(missing) == 1)} {ranks(waiting)} waiting for {seconds:.0f} s in "
            f"{first.what}, at {first.place} (collective {first.number} of {first.part!r}): {doing}"
        )
        if seconds >= self._timeout:
            self._end(f"{news}; the time-out of {self._timeout:g} s (DISTDL_STALL_TIMEOUT) ends the job")
        elif not all(report is not None and report["activity"] for report in reports):
            case.warned = True
            _say(news)

    def _doing(self, rank: int, report: Message | None) -> str:
        who = f"rank {rank} ({self._places[rank]})"
        if report is None:
            return f"{who} does not answer: stopped, out of reach, or in code that holds Python's lock"
        doing = f"is {report['activity']}, " if report["activity"] else "is "
        stack = f", after\n{report['stack'].rstrip()}\n" if report["stack"] else ""
        return f"{who} {doing}at {report['place']}{stack}"

    def _crossed(self, first: Wait, missing: list[int]) -> Wait | None:
        """Return a wait of a missing rank for the first, in another call; neither will ever go on."""
        for wait in self._waits.values():
            there = self._waits.get((first.rank, wait.part))
            is_missed = first.rank in wait.members and (there is None or there.number != wait.number)
            if wait.rank in missing and is_missed and not _is_transfer(first, wait):
                return wait
        return None

    def _close(self, case: _Case, now: float) -> None:
        """Say that a stall that was told is over; where it has happened it counts as usual."""
        if case.warned:
            first = min(case.waits, key=lambda wait: wait.since)
            seconds = now - first.since
            self._usual[first.place] = 2 * seconds
            _say(f"the wait at {first.place} is over, after {seconds:.0f} s")

    def _end(self, news: str) -> None:
        if not self._is_over:
            self._is_over = True
            self._on_end(news)


def _is_transfer(wait: Wait, other: Wait) -> bool:
    """Say whether one rank sends what the other receives, which may take long."""
    kinds = {wait.what.split()[0], other.what.split()[0]}
    return wait.part == other.part and kinds == {"send", "receive"}


def _say(news: str) -> None:
    print(f"distdl: {news}", file=sys.stderr, flush=True)
