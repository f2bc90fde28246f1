"""Kills reproducible fits at random moments, takes them up on other numbers of ranks, and compares how they end."""

import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

from distdl.train.checkpoint import list_checkpoints, verify_checkpoint
from tests.faults.running import Fit
from tests.jobs.launching import mpis, strays

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGSTOP)

DEATH_SECONDS = 10.0
"""From a signal to the end of the job."""

STALL = {"DISTDL_STALL_WARNING": "1", "DISTDL_STALL_TIMEOUT": "4"}
STALL_SECONDS = 4.0 + DEATH_SECONDS

LONGEST_SECONDS = 3.5
"""Until a signal is sent: about as long as a fit takes, start included."""


class Problem(AssertionError):
    """A promise that was not kept."""


class Kills:
    """Fits that are killed, and what became of them.

    Args:
        seed: of all that is drawn.
    """

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.kills = Counter()
        self.slowest = 0.0
        self.with_mpi = Counter()
        self.verified = self.steps_kept = 0
        self.expected = ""

    def run(self, fits, say=print):
        """Kill so many fits, each once or twice, and raise `Problem` if one does not end as if nothing had been."""
        with tempfile.TemporaryDirectory(prefix="distdl-soak-") as directory:
            self.expected = self._whole(Path(directory))
            for number in range(1, fits + 1):
                self._fit(Path(directory) / f"fit-{number}")
                if number % 10 == 0 or number == fits:
                    say(f"{number} of {fits} fits: the same bits after {sum(self.kills.values())} kills", flush=True)

    def summary(self):
        """Say in some lines what was done."""
        kinds = ", ".join(f"{signal.Signals(number).name} {count}" for number, count in sorted(self.kills.items()))
        jobs = ", ".join(f"{name} {count}" for name, count in sorted(self.with_mpi.items()))
        return (
            f"kills: {kinds}\njobs: {jobs}\ncheckpoints verified: {self.verified}; steps kept over kills: "
            f"{self.steps_kept}\nslowest end of a job after its signal: {self.slowest:.1f} s"
        )

    def _whole(self, directory):
        (directory / "whole").mkdir()
        fit = Fit(mpis()[0], 1, directory / "whole")
        _check(fit.wait() == 0 and fit.digest, "the undisturbed fit failed", fit)
        return fit.digest

    def _fit(self, directory):
        for _ in range(self.random.choice((1, 1, 2))):
            directory.mkdir(exist_ok=True)
            while not self._disturb(directory):
                # It was through before.
                shutil.rmtree(directory)
                directory.mkdir()
        fit = self._start(directory, 0.0)
        _check(fit.wait(120) == 0, "the resumed fit failed", fit)
        _check(fit.digest == self.expected, f"the digest is {fit.digest}, not {self.expected}", fit)
        shutil.rmtree(directory)

    def _start(self, directory, seconds=0.02):
        binaries = self.random.choice(mpis())
        self.with_mpi[binaries.parent.name] += 1
        ranks, every = self.random.randint(2, 4), self.random.randint(1, 6)
        return Fit(binaries, ranks, directory, every, seconds, STALL)

    def _disturb(self, directory):
        """Start or take up a fit, and send it a signal; say whether that came in time."""
        fit, number = self._start(directory), self.random.choice(SIGNALS)
        if number == signal.SIGSTOP:
            # Before ranks have met nobody can miss one.
            fit.reach_any(60)
            time.sleep(self.random.uniform(0, LONGEST_SECONDS / 4))
        else:
            time.sleep(self.random.uniform(0, LONGEST_SECONDS))
        process = self._victim(fit, number)
        if process is None:
            _check(fit.wait(60) == 0, "a fit that nobody disturbed failed", fit)
            return False
        start = time.monotonic()
        os.kill(process, number)
        self.kills[number] += 1
        limit = STALL_SECONDS if number == signal.SIGSTOP else DEATH_SECONDS
        fit.wait(2 * limit)
        seconds = time.monotonic() - start
        _check(strays(fit.mark) == [], f"{strays(fit.mark)} still run", fit)
        _check(seconds <= limit, f"it took {seconds:.1f} s to end after {signal.Signals(number).name}", fit)
        self.slowest = max(self.slowest, seconds)
        self._verify(fit)
        return True

    def _victim(self, fit, number):
        ranks = fit.ranks()
        targets = [*ranks, *([fit.process.pid] if number != signal.SIGSTOP else [])]
        return self.random.choice(targets) if fit.process.poll() is None and targets else None

    def _verify(self, fit):
        found = list_checkpoints(fit.checkpoints)
        for path in found:
            problems = verify_checkpoint(path)
            _check(not problems, "; ".join(problems), fit)
        self.verified += len(found)
        self.steps_kept += int(found[0].name[-10:]) if found else 0


def _check(holds, what, fit):
    if not holds:
        raise Problem(f"{what}; the job in {fit.checkpoints.parent} printed:\n{fit.text}")
