"""Programs whose kernels are compiled for a CPU that variables name."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def output(program, directory, variables):
    """Return what a program prints; machine code is kept in the directory."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_CPU_")}
    environment |= {"DISTDL_CACHE_DIR": str(directory), **variables}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
