"""Starting whole jobs from tests, with a time-out."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
MPIEXEC = Path(sys.executable).parent / "mpiexec"


@dataclass
class Ended:
    """How a job ended."""

    code: int
    output: str
    seconds: float


def run_job(script, ranks=3, arguments=(), timeout=60, environment=None):
    """Run a script (its text) on some ranks; a job that does not end by itself is killed and fails the test."""
    command = [str(MPIEXEC), "-n", str(ranks), sys.executable, "-c", script, *arguments]
    return run(command, timeout, environment)


def run(command, timeout=60, environment=None):
    """Run a command in a process group of its own."""
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f"the job was still running after {timeout} s; it printed:\n{output}") from None
    return Ended(process.returncode, output, time.monotonic() - start)


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
