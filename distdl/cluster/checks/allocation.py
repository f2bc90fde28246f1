"""Who has started this process, and whether a scheduler's allocation is of the size asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...comm.launcher import find_launcher
from .finding import Finding
from .request import Request

_SUBMITTED_BY = {
    "Slurm": "sbatch",
    "PBS or Grid Engine": "qsub",
    "LSF": "bsub",
    "Flux": "flux",
    "Kubernetes": "kubectl",
}


def check(request: Request) -> Iterator[Finding]:
    """Name launcher, scheduler and allocation; one that does not fit the ranks is a warning."""
    launcher = find_launcher()
    if launcher is None:
        yield Finding("ok", "launcher", "none: this process runs alone")
    else:
        size = launcher.size or "an unknown number of"
        text = f"{launcher.name} started {size} processes; run the check-up in a plain shell"
        yield Finding("warn", "launcher", text)
    found = allocation(os.environ)
    if found is None:
        here = [name for name, program in _SUBMITTED_BY.items() if shutil.which(program)]
        text = f"{', '.join(here)} installed" if here else "none installed: jobs start by `distdl launch` or mpiexec"
        yield Finding("ok", "scheduler", f"{text}; this process is no job's")
        return
    scheduler, slots, mark = found
    if slots == request.ranks:
        yield Finding("ok", "scheduler", f"{scheduler}: an allocation of {slots} ranks")
    else:
        text = f"{scheduler}: the allocation has {slots} slots ({mark}), the job {request.ranks} ranks"
        yield Finding("warn", "scheduler", f"{text}: -n {slots} would take all")


def allocation(environment: Mapping[str, str]) -> tuple[str, int, str] | None:
    """Return scheduler, slots and the variable that told of the allocation that this process runs in; None: of none."""
    for scheduler, mark in (("Slurm", "SLURM_NTASKS"), ("LSF", "LSB_DJOB_NUMPROC"), ("Grid Engine", "NSLOTS")):
        if environment.get(mark, "").isdecimal():
            return scheduler, int(environment[mark]), mark
    path = environment.get("PBS_NODEFILE", "")
    if path and Path(path).is_file():
        return "PBS", len(Path(path).read_text().split()), "lines of PBS_NODEFILE"
    return None
