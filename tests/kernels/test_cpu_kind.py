"""What kernels are written for is what they are compiled for, whatever variables say of the CPU."""

import os
import platform
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AVX2 = runpy.run_path(str(ROOT / "scripts" / "benchmarks" / "machine.py"))["AVX2"]

PROGRAM = """
import numpy as np
from numpy._core._multiarray_umath import __cpu_dispatch__ as sets, __cpu_features__ as has
from distdl.kernels.add import add_vectors
from distdl.kernels.cpu import CPU_KIND
ones = np.ones(64, np.float32)
add_vectors(ones, ones, ones)
print(CPU_KIND, "zmm" in "".join(add_vectors.inspect_asm().values()))
print([name for name in sets if has[name] and ("AVX512" in name or name == "X86_V4")])
"""


def run(directory, **variables):
    """Return the kind of CPU, whether machine code takes registers of sixteen floats, and NumPy's AVX-512 loops."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_CPU_")}
    environment |= {"DISTDL_CACHE_DIR": str(directory), **variables}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    kernels, loops = done.stdout.splitlines()
    kind, wide = kernels.split()
    return kind, wide == "True", loops


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of x86")
def test_benchmarks_hold_to_avx2(tmp_path):
    assert run(tmp_path, **AVX2) == ("avx2", False, "[]")


@pytest.mark.parametrize("variables", [{}, {"NUMBA_CPU_NAME": "haswell"}, {"NUMBA_CPU_NAME": "generic"}])
def test_tiles_fit_the_registers_that_are_compiled_for(tmp_path, variables):
    kind, wide, _ = run(tmp_path, **variables)
    assert (kind == "avx512") == wide
