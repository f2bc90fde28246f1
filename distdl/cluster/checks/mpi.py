"""The MPI library, and the mpiexec that belongs to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from ...core.errors import LaunchError
from ..launch import find_mpi, find_mpiexec, mpiexec_family
from .finding import Finding
from .request import Request


def check(request: Request) -> Iterator[Finding]:
    """Find both; no library or no mpiexec of its family is a failure."""
    subject = "MPI library"
    try:
        mpi = find_mpi()
        yield Finding("ok", subject, f"{mpi.version}{f', {mpi.library}' if mpi.library else ''}")
        subject = "mpiexec"
        yield compare(find_mpiexec(mpi))
    except LaunchError as error:
        yield Finding("fail", subject, str(error))


def compare(path: str) -> Finding:
    """Say whether plain `mpiexec` would be one of the same family."""
    first = shutil.which("mpiexec")
    if first is not None and not os.path.samefile(first, path) and mpiexec_family(first) != mpiexec_family(path):
        text = f"{path}; plain `mpiexec` would be {first}, of another MPI: use `distdl launch`, or this path"
        return Finding("warn", "mpiexec", text)
    return Finding("ok", "mpiexec", path)
