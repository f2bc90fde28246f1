"""Which launcher started this process, read from the marks that launchers leave in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

# SLURM_NTASKS is no sign: batch scripts that start one process have it too.
_SIZES = {
    "PMI_SIZE": "mpiexec of MPICH (or a relative of it)",
    "OMPI_COMM_WORLD_SIZE": "mpiexec of Open MPI",
    "SLURM_STEP_NUM_TASKS": "srun",
    "JSM_NAMESPACE_SIZE": "jsrun",
    "FLUX_JOB_SIZE": "flux run",
}

# Launchers that do not say how many processes they have started.
_OTHERS = ("PMIX_RANK", "PALS_RANKID", "FLUX_TASK_RANK", "MPI_LOCALNRANKS")


@dataclass(frozen=True)
class Launcher:
    """A launcher, and how many processes it says to have started (0: it does not say)."""

    name: str
    size: int
    mark: str


def find_launcher(environment: Mapping[str, str] | None = None) -> Launcher | None:
    """Return the launcher of this process; None if it was started alone."""
    environment = os.environ if environment is None else environment
    for mark, name in _SIZES.items():
        value = environment.get(mark, "")
        if value.isdigit() and not (mark == "SLURM_STEP_NUM_TASKS" and value == "1"):
            return Launcher(name, int(value), mark)
    if environment.get("SLURM_STEP_NUM_TASKS") == "1":
        # srun leaves the marks of PMIx with one task too.
        return None
    for mark in _OTHERS:
        if mark in environment:
            return Launcher(f"an unknown launcher ({mark} is set)", 0, mark)
    return None
