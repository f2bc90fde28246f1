"""Fits of `tests.faults.training` in jobs of their own, which are disturbed while they run."""

import os
import re
import signal
import subprocess
from pathlib import Path

from distdl.cluster.launch import launch_command, mpiexec_family
from tests.jobs.launching import ROOT, ask_where, wait_for


class Fit:
    """A job that trains, with its output in files.

    Args:
        binaries: of the environment with mpiexec and Python.
        ranks: how many.
        directory: gets checkpoints and output.
        every: steps between checkpoints.
        seconds: that each step is held up.
        options: more environment variables.
        launch: options of `distdl launch`, which starts the job then instead of mpiexec.
        before: words before the command.
        checkpoints: their directory, instead of one of the job's own.
    """

    def __init__(
        self, binaries, ranks, directory, every=7, seconds=0.0, options=(), launch=None, before=(), checkpoints=None
    ):
        self.checkpoints = checkpoints or Path(directory) / "checkpoints"
        self.output = Path(directory) / "output"
        self.mark = f"DISTDL_TEST_MARK={directory}"
        python, mpiexec = str(binaries / "python"), str(binaries / "mpiexec")
        words = [str(ROOT / "tests" / "faults" / "training.py"), str(self.checkpoints), str(every), str(seconds)]
        command = launch_command(ranks, mpiexec, mpiexec_family(mpiexec), [python, *words])
        if launch is not None:
            supervised = ["--checkpoint-dir", str(self.checkpoints), *launch]
            command = [python, "-m", "distdl", "launch", "-n", str(ranks), *supervised, *words]
        environment = {"PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1", "DISTDL_TEST_MARK": str(directory)}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*before, *command],
                cwd=ROOT,
                env={**os.environ, **environment, **dict(options)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self):
        """What the job has printed so far."""
        return self.output.read_text(errors="replace")

    @property
    def steps(self):
        """The steps that it has said it took."""
        return [int(number) for number in re.findall(r"^step (\d+)$", self.text, re.MULTILINE)]

    @property
    def digest(self):
        """What the fit ended with; None if it did not come to its end."""
        found = re.search(r"^digest (\S+)$", self.text, re.MULTILINE)
        return found and found[1]

    def ranks(self):
        """The processes of its ranks, in the order of their ranks."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                environment = (path / "environ").read_bytes().decode(errors="replace")
                words = (path / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            rank = re.search(r"(?:^|\0)(?:PMI_RANK|OMPI_COMM_WORLD_RANK)=(\d+)", environment)
            if rank and self.mark in environment and any(word.endswith(b"faults/training.py") for word in words[:2]):
                found[int(rank[1])] = int(path.name)
        return [found[rank] for rank in sorted(found)]

    def reach(self, step, seconds=60):
        """Wait until a step was taken, or the job has ended; see `wait_for`."""
        self.wait_for(lambda: self.process.poll() is not None or step in self.steps, seconds)

    def reach_any(self, seconds=60):
        """Wait until the first step was taken, or the job has ended; see `wait_for`."""
        self.wait_for(lambda: self.process.poll() is not None or self.steps, seconds)

    def wait_for(self, condition, seconds=60):
        """Wait until a condition holds; if it does not, the job is killed, and the test fails with its stacks."""
        try:
            wait_for(condition, seconds)
        except TimeoutError:
            left = ask_where(self.process.pid)
            self.kill()
            raise AssertionError(f"still running after {seconds} s: {left}; it printed:\n{self.text}") from None

    def wait(self, seconds=60):
        """Return the exit code of the job, once it has ended; see `wait_for`."""
        self.wait_for(lambda: self.process.poll() is not None, seconds)
        return self.process.returncode

    def kill(self):
        """End mpiexec and all ranks."""
        for process in (*self.ranks(), self.process.pid):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
