"""A short job of ranks that answers with a line of JSON: a check-up's probe, or a trial of a training script."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.errors import LaunchError
from .attempt import Attempt, Outcome
from .hosts import Host
from .launch import exported, find_mpi, find_mpiexec, launch_command

SECONDS_A_HOST = 1.0
"""More hosts are given more time."""

END_SECONDS = 5.0


def answer(
    ranks: int,
    words: Sequence[str],
    mark: str,
    limit: float,
    hosts: Sequence[Host] = (),
    remote_shell: str = "ssh",
    variables: Mapping[str, str] | None = None,
) -> Any:
    """Run `words` on so many ranks, and return what the line behind `mark` says that one of them prints.

    Args:
        ranks: how many.
        words: the command.
        mark: what the line begins with.
        limit: seconds after which the job is ended.
        hosts: where; empty: on this machine.
        remote_shell: the command that reaches hosts.
        variables: of its environment, beside those of this process.

    Raises:
        LaunchError: no MPI library or mpiexec; the job failed, was not done in time, or was several jobs.
    """
    library = find_mpi()
    limit += SECONDS_A_HOST * len(hosts)
    # A rank that hangs ends itself, on whatever host.
    told = {"DISTDL_STALL_TIMEOUT": str(math.ceil(limit / 2)), **(variables or {})}
    mpiexec = find_mpiexec(library)
    command = launch_command(ranks, mpiexec, library.family, words, hosts, remote_shell, exported(told))
    with tempfile.TemporaryFile() as file:
        outcome = Attempt(command, library.family, told, END_SECONDS, limit, file, is_silent=True).run()
        file.seek(0)
        output = file.read().decode(errors="replace")
    answers = re.findall(rf"^{mark}(.*)$", output, re.MULTILINE)
    _check(f"a job of {ranks} ranks", outcome, len(answers), limit)
    return json.loads(answers[0])


def _check(what: str, outcome: Outcome, answers: int, limit: float) -> None:
    if outcome.is_late:
        said = outcome.last_line or "nothing"
        raise LaunchError(f"{what} was not done after {limit:g} s, and was ended; it said last: {said}")
    if answers > 1:
        rule = "mpiexec does not belong to the MPI library of mpi4py"
        raise LaunchError(f"{what} was {answers} jobs of one rank: {rule}")
    if outcome.code == 0 and answers == 0:
        raise LaunchError(f"{what} came to its end without an answer")
    if outcome.code != 0:
        said = outcome.news or outcome.last_line or "nothing"
        raise LaunchError(f"{what} did not answer (exit code {outcome.code}); it said: {said}")
