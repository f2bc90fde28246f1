"""Keeps a job alive: after a death it starts again, from the newest checkpoint, on the hosts that are left.

What is restarted is the whole job, as torchrun does: no MPI library lets ranks that have lost one go on safely in all
its versions.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core import checks
from ..core.errors import LaunchError
from ..core.exit_codes import INTERRUPTED, REQUEUE, USAGE
from ..core.files import StrPath
from ..core.signals import handle
from .attempt import Attempt, Outcome, forwarded, say
from .checks.allocation import allocation
from .hosts import Host, read_hosts
from .launch import exported, find_mpi, find_mpiexec, launch_command
from .reach import reachable
from .shared_memory import PER_RANK_MEBIBYTES, shortage

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


@dataclass(frozen=True)
class Job:
    """What is to run, and how it is kept alive.

    Attributes:
        command: the words that each rank runs.
        mpiexec, family: of the MPI library.
        ranks: how many.
        hosts: where; empty: wherever mpiexec sees fit.
        min_ranks: with how few it may go on when hosts are gone; None: with all only.
        max_restarts: how often it is started again.
        end_timeout: seconds that mpiexec is given to end when a rank has ended the job.
        remote_shell: the command that mpiexec reaches hosts with.
        environment: more variables of the ranks.
        position: says what the newest checkpoint is; empty: there is none, or nobody knows.
    """

    command: Sequence[str]
    mpiexec: str
    family: str
    ranks: int
    hosts: Sequence[Host] = ()
    min_ranks: int | None = None
    max_restarts: int = 0
    end_timeout: float = 15.0
    remote_shell: str = "ssh"
    environment: Mapping[str, str] = field(default_factory=dict)
    position: Callable[[], str] = lambda: ""

    def __post_init__(self) -> None:
        checks.integer("max_restarts", self.max_restarts, 0)
        checks.real("end_timeout", self.end_timeout, above=0.0)
        if self.min_ranks is not None:
            checks.integer("min_ranks", self.min_ranks, 1)
            if self.min_ranks > self.ranks:
                raise checks.bad_value("min_ranks", self.min_ranks, f"must be at most {self.ranks}, the ranks")
        slots = sum(host.slots for host in self.hosts)
        if self.hosts and self.ranks > slots:
            raise checks.bad_value("ranks", self.ranks, f"must be at most {slots}, the slots of all hosts")


def launch(
    script: Sequence[str],
    ranks: int | None = None,
    hostfile: StrPath | None = None,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> int:
    """Run a Python script and its arguments on several ranks, and return the job's exit code.

    Args:
        script: path and arguments.
        ranks: how many; by default as many as the host file has slots.
        hostfile: where; see `read_hosts`.
        environment: more variables of the ranks.
        options: `min_ranks` and others, see `Job`.

    Raises:
        LaunchError: no MPI library, no mpiexec that fits, or hosts that cannot be reached.
        ArgumentError: the script does not exist, or an option breaks a rule.
        FileFormatError: the host file is damaged.
    """
    checks.file("script", script[0])
    hosts = [] if hostfile is None else read_hosts(hostfile)
    if ranks is None:
        if not hosts:
            raise checks.bad_value("ranks", ranks, "must be given where no host file says how many slots there are")
        ranks = sum(host.slots for host in hosts)
    checks.integer("ranks", ranks, 1)
    mpi = find_mpi()
    found = allocation(os.environ)
    if found is not None and found[1] != ranks:
        say(f"{ranks} ranks, where the allocation of {found[0]} has {found[1]} slots ({found[2]})")
    short = "" if hosts else shortage(PER_RANK_MEBIBYTES * ranks)
    if short:
        say(short)
    command = [sys.executable, *script]
    job = Job(command, find_mpiexec(mpi), mpi.family, ranks, hosts, environment=environment or {}, **options)
    return supervise(job)


def supervise(job: Job) -> int:
    """Run a job to its end, start it again after a death, and return the exit code of the last run.

    Raises:
        LaunchError: too few hosts can be reached from the start.
    """
    told: list[int] = []
    restore = handle(forwarded(), lambda number, frame: told.append(number))
    try:
        return _supervise(job, told)
    finally:
        restore()


def _supervise(job: Job, told: list[int]) -> int:
    """Do what `supervise` does; `told` fills with the signals that come while nothing runs."""
    outcomes: list[Outcome] = []
    while True:
        hosts, gone = reachable(job.hosts, job.remote_shell)
        if told:
            # All that there is to keep is in the checkpoint.
            return INTERRUPTED if told[0] == signal.SIGINT else REQUEUE
        ranks = min(job.ranks, sum(host.slots for host in hosts)) if job.hosts else job.ranks
        if ranks < (job.min_ranks or job.ranks):
            outcome = _too_few(job, ranks, gone, is_first=not outcomes)
        else:
            if gone:
                say(f"{', '.join(gone)} cannot be reached: {ranks} of {job.ranks} ranks, on the hosts that are left")
            words = launch_command(
                ranks, job.mpiexec, job.family, job.command, hosts, job.remote_shell, exported(job.environment)
            )
            outcome = Attempt(words, job.family, job.environment, job.end_timeout).run(told)
        outcomes.append(outcome)
        if not _is_death(outcome) or len(outcomes) > job.max_restarts:
            break
        _pause(job, outcomes, told)
    if _is_death(outcome) and job.max_restarts:
        say(_report(outcomes))
    elif _is_death(outcome) and not outcome.is_told:
        say(_line(outcome))
    return INTERRUPTED if outcome.told == signal.SIGINT else outcome.code


def _is_death(outcome: Outcome) -> bool:
    return outcome.told is None and outcome.code not in (0, USAGE, REQUEUE, INTERRUPTED)


def _too_few(job: Job, ranks: int, gone: Sequence[str], is_first: bool) -> Outcome:
    needed = "at least --min-ranks" if job.min_ranks is not None else "all"
    news = f"{', '.join(gone)} cannot be reached by {job.remote_shell}: {ranks} ranks are left, {needed} "
    news += f"{job.min_ranks or job.ranks} are needed"
    if is_first:
        raise LaunchError(news)
    return Outcome(1, time.time(), 0.0, news)


def _pause(job: Job, outcomes: Sequence[Outcome], told: Sequence[int]) -> None:
    """Say what has died, and wait a while, or until a signal comes."""
    seconds = min(FIRST_PAUSE * 2 ** (len(outcomes) - 1), LONGEST_PAUSE)
    position = job.position()
    start = f"from {position}" if position else "from the start"
    say(f"{_line(outcomes[-1])}; restart {len(outcomes)} of {job.max_restarts} in {seconds:g} s, {start}")
    deadline = time.monotonic() + seconds
    while not told and time.monotonic() < deadline:
        time.sleep(min(0.1, seconds))


def _report(outcomes: Sequence[Outcome]) -> str:
    lines = [f"gave up after {len(outcomes) - 1} restart{'s' if len(outcomes) != 2 else ''}:"]
    for number, outcome in enumerate(outcomes, 1):
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(outcome.started))
        lines.append(f"  {number}. started {started}: {_line(outcome)}")
    return "\n".join(lines)


def _line(outcome: Outcome) -> str:
    return f"died after {outcome.seconds:.0f} s with exit code {outcome.code}: {outcome.news or 'no rank said why'}"
