"""A check-up of an installation: what was found, and whether it is well."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from ..comm.launcher import find_launcher
from ..core import settings, threads
from ..core.errors import DistdlError, LaunchError
from ..version import __version__
from .launch import PROBE_SECONDS, Mpi, find_mpi, find_mpiexec, launch_command, mpiexec_family
from .shared_memory import PLACE, free_mebibytes, shortage

_RANKS = """
import distdl
comm = distdl.world()
print(f"rank {comm.rank} of {comm.size}", flush=True)
comm.barrier()
"""

_SHARED_MEBIBYTES = 128
"""64 MiB, what containers get by default, have failed at 16 ranks."""

_CACHE = "from distdl.kernels.cache import cache_directory; print(cache_directory())"


@dataclass(frozen=True)
class Finding:
    """One line of the check-up; state is "ok", "warn" or "fail"."""

    state: str
    subject: str
    text: str


def examine() -> list[Finding]:
    """Make all checks, in order; one that fails does not stop the others."""
    findings = [
        Finding("ok", "versions", _versions()),
        Finding("ok", "machine", f"{platform.node()}, {len(threads.cores())} of {os.cpu_count()} cores usable"),
        _launcher(),
    ]
    mpi: Mpi | None = None
    mpiexec = ""
    try:
        mpi = find_mpi()
        where = f", {mpi.library}" if mpi.library else ""
        findings.append(Finding("ok", "MPI library", f"{mpi.version}{where}"))
        mpiexec = find_mpiexec(mpi)
        findings.append(_mpiexec(mpiexec))
    except LaunchError as error:
        findings.append(Finding("fail", "mpiexec" if mpi else "MPI library", str(error)))
    if mpi and mpiexec:
        findings.append(_guarded("two ranks", lambda: _two_ranks(mpi, mpiexec)))
    findings.append(_guarded("shared memory", _shared_memory))
    findings.append(_guarded("threads", _threads))
    findings.append(_guarded("kernel cache", _cache))
    findings.append(_settings())
    return findings


def _guarded(subject: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except (DistdlError, OSError, subprocess.SubprocessError) as error:
        return Finding("fail", subject, str(error))


def _versions() -> str:
    names = ("numpy", "numba", "scipy", "mpi4py")
    parts = [f"{name} {metadata.version(name)}" for name in names]
    return ", ".join([f"distdl {__version__}", f"Python {platform.python_version()}", *parts])


def _launcher() -> Finding:
    launcher = find_launcher()
    if launcher is None:
        return Finding("ok", "launcher", "none: this process runs alone")
    size = launcher.size or "an unknown number of"
    return Finding("warn", "launcher", f"{launcher.name} started {size} processes; run the check-up in a plain shell")


def _mpiexec(path: str) -> Finding:
    first = shutil.which("mpiexec")
    if first is not None and not os.path.samefile(first, path) and mpiexec_family(first) != mpiexec_family(path):
        text = f"{path}; plain `mpiexec` would be {first}, of another MPI: use `distdl launch`, or this path"
        return Finding("warn", "mpiexec", text)
    return Finding("ok", "mpiexec", path)


def _two_ranks(mpi: Mpi, mpiexec: str) -> Finding:
    words = launch_command(2, mpiexec, mpi.family, [sys.executable, "-c", _RANKS])
    done = subprocess.run(words, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    # Ranks may write into each other's lines.
    ranks = sorted(re.findall(r"rank \d+ of \d+", done.stdout))
    if ranks == ["rank 0 of 2", "rank 1 of 2"]:
        return Finding("ok", "two ranks", "mpiexec and library belong together: a job of two ranks met")
    last = (done.stderr.strip().splitlines() or ["; ".join(ranks) or "no output"])[-1]
    return Finding("fail", "two ranks", f"a job of two ranks did not meet (exit code {done.returncode}): {last}")


def _shared_memory() -> Finding:
    short = shortage(_SHARED_MEBIBYTES)
    if short:
        return Finding("warn", "shared memory", short)
    free = free_mebibytes()
    return Finding(
        "ok", "shared memory", f"no {PLACE} on this system" if free is None else f"{free} MiB free in {PLACE}"
    )


def _settings() -> Finding:
    unknown = settings.unknown()
    if unknown:
        text = f"{', '.join(unknown)} means nothing; there are {', '.join(settings.VARIABLES)}"
        return Finding("warn", "settings", text)
    given = [f"{name}={said}" for name in settings.VARIABLES if (said := settings.value(name))]
    return Finding("ok", "settings", ", ".join(given) or "none of the environment variables of distdl is set")


def _threads() -> Finding:
    mine = threads.cores()
    plans = {ranks: threads.plan(mine, [mine] * ranks) for ranks in (1, 2)}
    counts = [f"{plan.count} with {ranks} rank{'s' if ranks > 1 else ''} a node" for ranks, plan in plans.items()]
    told = plans[2].reason if plans[2].reason.isupper() else ""
    text = f"{', '.join(counts)}{f' (set by {told})' if told else ''}"
    return Finding("ok", "threads", text)


def _cache() -> Finding:
    command = [sys.executable, "-c", _CACHE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    path = done.stdout.strip()
    if done.returncode or path in ("", "None"):
        return Finding("warn", "kernel cache", "no directory can be written: kernels compile anew in every process")
    return Finding("ok", "kernel cache", path)


def report(findings: list[Finding]) -> str:
    """Return the check-up as text: a line a finding, and one that sums up."""
    width = max(len(finding.subject) for finding in findings)
    lines = [f"{f.state:4}  {f.subject:{width}}  {f.text}" for f in findings]
    counts = {state: sum(finding.state == state for finding in findings) for state in ("warn", "fail")}
    bad = [f"{count} {state}" for state, count in counts.items() if count]
    return "\n".join([*lines, "", f"{', '.join(bad)}: see above" if bad else "all is well"])
