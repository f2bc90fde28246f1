"""The check-up of an installation and of a job's hosts: runs the checks, and says what they have found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any, TextIO

from ..core.errors import DistdlError
from .checks import (
    agreement,
    allocation,
    binding,
    cache,
    clocks,
    hosts,
    links,
    machine,
    mpi,
    settings,
    shared_directory,
    shared_memory,
    speed,
    threads,
    versions,
)
from .checks.finding import Finding
from .checks.report import Report
from .checks.request import Request
from .probe import MARK
from .rank_job import answer

__all__ = ["Finding", "Request", "examine", "exit_code", "judge", "show", "to_json"]

PROBE_SECONDS = 60.0
"""After which the job is ended; more hosts are given more."""

_HERE = (versions, machine, allocation, mpi, settings, threads, cache, shared_memory, hosts)
_COLOURS = {"ok": "32", "warn": "33", "fail": "31"}


def examine(request: Request | None = None) -> list[Finding]:
    """Make all checks, in order; one that fails does not stop the others."""
    request = request or Request()
    findings = [finding for module in _HERE for finding in guarded(module.__name__, module.check, request)]
    if not {finding.subject for finding in findings if finding.state == "fail"} & {"MPI library", "mpiexec", "hosts"}:
        findings += guarded("job of ranks", _look_at_ranks, request)
    return findings


def guarded(name: str, check: Callable[[Any], Iterable[Finding]], subject: Any) -> list[Finding]:
    """Return what a check finds; that it breaks is a finding, too."""
    try:
        return list(check(subject))
    except (DistdlError, OSError, subprocess.SubprocessError) as error:
        return [Finding("fail", name.rpartition(".")[2].replace("_", " "), str(error))]


def judge(report: Report) -> Iterator[Finding]:
    """Yield what the facts and measurements of a job's ranks mean."""
    for check in (
        agreement.check,
        binding.check,
        clocks.check,
        links.check,
        speed.check,
        shared_memory.check_ranks,
        shared_directory.check,
    ):
        yield from check(report)
    if len(report.hosts()) > 1:
        yield from cache.check_ranks(report)


def _look_at_ranks(request: Request) -> Iterator[Finding]:
    words = [sys.executable, "-m", f"{__package__}.probe", *([request.shared] if request.shared else [])]
    report = Report.parse(answer(request.ranks, words, MARK, PROBE_SECONDS, request.hosts, request.remote_shell))
    if len(report.ranks) != request.ranks:
        yield Finding("fail", "job of ranks", f"{len(report.ranks)} ranks met of {request.ranks} that were asked for")
        return
    where = f" on {len(report.hosts())} hosts" if len(report.hosts()) > 1 else ""
    yield Finding("ok", "job of ranks", f"mpiexec and library belong together: {request.ranks} ranks met{where}")
    yield from judge(report)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 1 if anything is red, else 0."""
    return int(any(finding.state == "fail" for finding in findings))


def show(findings: list[Finding], stream: TextIO | None = None) -> str:
    """Return the check-up as text: a line a finding, and one that sums up; in colours for a terminal."""
    is_coloured = stream is not None and stream.isatty() and not os.environ.get("NO_COLOR")
    width = max(len(finding.subject) for finding in findings)
    lines = [f"{_paint(f.state, f'{f.state:4}', is_coloured)}  {f.subject:{width}}  {f.text}" for f in findings]
    counts = {state: sum(finding.state == state for finding in findings) for state in ("warn", "fail")}
    bad = [_paint(state, f"{count} {state}", is_coloured) for state, count in counts.items() if count]
    return "\n".join([*lines, "", f"{', '.join(bad)}: see above" if bad else _paint("ok", "all is well", is_coloured)])


def to_json(findings: list[Finding]) -> str:
    """Return the check-up as JSON: {"code": exit code, "findings": [{"state", "subject", "text"}]}."""
    return json.dumps({"code": exit_code(findings), "findings": [asdict(finding) for finding in findings]}, indent=2)


def _paint(state: str, text: str, is_coloured: bool) -> str:
    return f"\x1b[{_COLOURS[state]}m{text}\x1b[0m" if is_coloured else text
