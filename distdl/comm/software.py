"""Whether all ranks run the same software: replicas of other versions would differ in bits, or in what they send."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import LaunchError
from ..version import __version__

if TYPE_CHECKING:
    from .base import Communicator


def versions(library: str) -> dict[str, str]:
    """Return what must be the same on all ranks; `library` names the MPI library."""
    return {
        "distdl": __version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "numpy": np.__version__,
        "numba": metadata.version("numba"),
        "MPI library": library,
    }


def compare(communicator: Communicator, host: str, mine: dict[str, str]) -> None:
    """Compare all ranks' versions with rank 0's.

    Args:
        communicator: of all ranks.
        host: where this rank runs.
        mine: its versions.

    Raises:
        LaunchError: some differ, on all ranks alike; names the first such rank, its host and both versions.
    """
    if communicator.all_equal(mine):
        return
    everywhere = communicator.allgather_object([host, mine])
    first_host, first = everywhere[0]
    for rank, (other, theirs) in enumerate(everywhere):
        for name, version in first.items():
            if theirs.get(name) != version:
                raise LaunchError(
                    f"rank {rank} on {other} has {name} {theirs.get(name)}, rank 0 on {first_host} has {version}: "
                    "all hosts must have the same; `distdl doctor --hostfile HOSTS` compares them"
                )
