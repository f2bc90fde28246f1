"""`distdl tune`: tries how a training runs fastest on an allocation, and keeps what it finds."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core import checks, threads
from ..core.errors import LaunchError
from ..parallel.plan import LARGE_BUCKET
from ..parallel.trial import MARK, Found
from . import tuner
from .hosts import Host
from .rank_job import answer

TRIAL_SECONDS = 600.0
"""After which a trial is ended: the first compiles kernels."""

MEASURE_SECONDS = 120.0

BUCKETS = (1 << 18, 1 << 20, 1 << 22)
"""Bytes of buckets that are tried beside backward()."""

WORTH = 1.03
"""By so much something must be faster than what is simpler: trials differ by less anyway."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What is to be tuned.

    Attributes:
        script: words of a training script; empty: none, reductions are measured only.
        ranks: how many; None: several divisions of the cores are tried.
        hosts: where, with as many slots as cores that may be used; empty: this machine.
        remote_shell: the command that reaches hosts.
        steps: that are timed in each trial.

    Raises:
        ArgumentError: the script does not exist, or ranks do not fit the hosts.
    """

    script: Sequence[str] = ()
    ranks: int | None = None
    hosts: Sequence[Host] = ()
    remote_shell: str = "ssh"
    steps: int = 30

    def __post_init__(self) -> None:
        if self.script:
            checks.file("script", self.script[0])
        checks.integer("steps", self.steps, 1)
        if self.ranks is not None:
            checks.integer("ranks", self.ranks, 1)
            if self.ranks % self.count:
                raise checks.bad_value("ranks", self.ranks, f"must be a multiple of {self.count}, the number of hosts")
            if self.ranks > self.count * self.cores:
                rule = f"must be at most {self.count * self.cores}, the cores of all hosts"
                raise checks.bad_value("ranks", self.ranks, rule)

    @property
    def count(self) -> int:
        """How many hosts there are."""
        return max(1, len(self.hosts))

    @property
    def cores(self) -> int:
        """Cores of each host: of the one that has fewest."""
        return min((host.slots for host in self.hosts), default=len(threads.cores()))

    def divisions(self) -> list[tuple[int, int]]:
        """List (ranks of all hosts, threads of each) that use the cores: threads are a power of two, or all cores."""
        if self.ranks is not None:
            return [(self.ranks, self.cores * self.count // self.ranks)]
        powers = [1 << i for i in range(self.cores.bit_length())]
        return [(self.cores // t * self.count, t) for t in dict.fromkeys([*powers, self.cores]) if self.cores % t == 0]

    def on(self, ranks: int) -> list[Host]:
        """Return the hosts with slots for so many ranks in all."""
        return [Host(host.name, ranks // self.count) for host in self.hosts]


@dataclass
class Result:
    """What was found.

    Attributes:
        reductions: see `tuner.measure`; empty for one rank.
        divisions: trials of ranks and threads, the best one first.
        reducing: trials of overlap and bucket sizes with the best of these, in the order in which they were made.
        kept: the one whose choice later jobs take; None: none was made.
    """

    reductions: list[dict[str, float]] = field(default_factory=list)
    divisions: list[Found] = field(default_factory=list)
    reducing: list[Found] = field(default_factory=list)
    kept: Found | None = None


def tune(request: Request, say: Say = lambda text: None) -> Result:
    """Try, and keep the best way to reduce gradients for later jobs on these ranks.

    Args:
        request: what is to be tuned.
        say: gets news of what is done.

    Raises:
        LaunchError: a trial failed; it says how.
    """
    result = Result()
    ranks, count = request.ranks or request.cores * request.count, 1
    if request.script:
        for ranks, count in request.divisions():
            say(f"trial of {_words(ranks, count)}")
            result.divisions.append(_trial(request, ranks, count))
        result.divisions.sort(key=lambda found: -found.rate)
        ranks, count = result.divisions[0].ranks, result.divisions[0].threads
    if ranks > 1:
        say(f"reductions over {ranks} ranks")
        words = [sys.executable, "-m", tuner.__name__, "measure"]
        result.reductions = _answer(request, ranks, count, words, tuner.MARK, MEASURE_SECONDS, {})
        if request.script:
            _tune_reducing(request, result, say)
    return result


def _tune_reducing(request: Request, result: Result, say: Say) -> None:
    best = result.divisions[0]
    for overlap, size in _ways(best.gradient_bytes):
        say(f"trial of {_way(overlap, size)}")
        told = {"DISTDL_OVERLAP": str(int(overlap)), "DISTDL_BUCKET_BYTES": str(size)}
        result.reducing.append(_trial(request, best.ranks, best.threads, told))
    # The first is the simplest.
    kept = result.reducing[0]
    fastest = max(result.reducing, key=lambda found: found.rate)
    if fastest.rate > WORTH * kept.rate:
        kept = fastest
    choice = [str(int(value)) for value in (kept.gradient_bytes, kept.overlap, kept.bucket_bytes)]
    words = [sys.executable, "-m", tuner.__name__, "keep", *choice]
    _answer(request, best.ranks, best.threads, words, tuner.MARK, MEASURE_SECONDS, {})
    result.kept = kept


def _ways(gradient_bytes: int) -> Iterator[tuple[bool, int]]:
    yield False, LARGE_BUCKET
    # In one bucket nothing can begin early.
    yield from ((True, size) for size in BUCKETS if size < gradient_bytes)


def _trial(request: Request, ranks: int, count: int, told: dict[str, str] | None = None) -> Found:
    variables = {"DISTDL_TRIAL_STEPS": str(request.steps), **(told or {})}
    words = [sys.executable, *request.script]
    try:
        found = Found(**_answer(request, ranks, count, words, MARK, TRIAL_SECONDS, variables))
    except LaunchError as error:
        raise LaunchError(
            f"{error}. A trial takes a script that makes at least {request.steps + 3} steps with a "
            "DistributedOptimizer or Trainer, not in reproducible mode"
        ) from None
    if found.ranks != ranks:
        raise LaunchError(f"{found.ranks} ranks met of {ranks} that were asked for")
    return found


def _answer(
    request: Request, ranks: int, count: int, words: list[str], mark: str, limit: float, variables: dict[str, str]
) -> Any:
    variables = {**variables, "DISTDL_NUM_THREADS": str(count)}
    return answer(ranks, words, mark, limit, request.on(ranks), request.remote_shell, variables)


def show(result: Result) -> str:
    """Return what was found as text."""
    parts = []
    if result.divisions:
        parts.append(_table("ranks and threads", [(_words(f.ranks, f.threads), f) for f in result.divisions]))
    if result.reductions:
        lines = [f"{'reductions, ms':>16}{'gradients':>12}{'messages':>12}{'MPI alone':>12}"]
        for row in result.reductions:
            times = "".join(f"{row[name]:12.3f}" for name in ("gradients", "messages", "mpi"))
            lines.append(f"{_size(int(row['bytes'])):>16}{times}")
        parts.append("\n".join(lines))
    if result.reducing:
        parts.append(_table("reduction", [(_way(f.overlap, f.bucket_bytes), f) for f in result.reducing]))
    if result.divisions:
        best = result.divisions[0]
        text = f"best: distdl launch -n {best.ranks}, with DISTDL_NUM_THREADS={best.threads}"
        if result.kept is not None:
            way = _way(result.kept.overlap, result.kept.bucket_bytes)
            text += f"\nkept for later jobs of {best.ranks} ranks here: {way}"
        parts.append(text)
    return "\n\n".join(parts)


def _table(name: str, rows: list[tuple[str, Found]]) -> str:
    width = max(len(name), *(len(text) for text, _ in rows))
    lines = [f"{name:{width}}{'ms a step':>12}{'rows a step':>13}{'rows a second':>15}"]
    for text, found in rows:
        lines.append(f"{text:{width}}{1e3 * found.seconds:12.3f}{found.rows:13,.0f}{found.rate:15,.0f}")
    return "\n".join(lines)


def to_json(result: Result) -> str:
    """Return what was found as JSON, see `Result`."""
    kept = None if result.kept is None else result.kept._asdict()
    trials = {name: [found._asdict() for found in getattr(result, name)] for name in ("divisions", "reducing")}
    return json.dumps({"reductions": result.reductions, **trials, "kept": kept}, indent=2)


def _words(ranks: int, count: int) -> str:
    return f"{ranks} rank{'s' * (ranks > 1)} x {count} thread{'s' * (count > 1)}"


def _way(overlap: bool, size: int) -> str:
    return f"{'beside' if overlap else 'after'} backward(), buckets of {_size(size)}"


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"
