"""Runs the tests to which the table of faults refers."""

import os
import subprocess
import sys

from tests.faults.cells import CELLS
from tests.jobs.launching import ROOT


def run_suites():
    """Run each once, and raise if a test fails or none ran; pytest says which and how long each took."""
    for name in dict.fromkeys(name for cell in CELLS for name in cell.tests):
        path, _, chosen = name.partition(" -k ")
        words = [path, *(["-k", chosen.strip("'")] if chosen else [])]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5", *words]
        print(f"\n{name}", flush=True)
        subprocess.run(command, cwd=ROOT, env={**os.environ, "DISTDL_TEST_ALL": "1"}, check=True)
