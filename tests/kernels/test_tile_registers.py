"""The sums of a tile stay in registers, whichever CPU the compiler is told of."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NARROW = "+avx,+avx2,+fma"
WIDE = f"{NARROW},+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"

# Compiles and does not run: this CPU need not be the one.
PROGRAM = """
from numba import typeof, types
import numpy as np
from distdl.kernels import gemm
array, vector, room = (typeof(np.empty((1,) * n, np.float32)) for n in (2, 1, 3))
part = types.UniTuple(types.int64, 2)
for kernel, signature in (
    (gemm.linear_forward, (array, array, vector, types.boolean, part, room, array)),
    (gemm.linear_input_gradient, (array, array, part, room, array)),
    (gemm.linear_weight_gradient, (array, array, part, room, vector, array)),
):
    kernel.compile(signature)
    print("kernel:", *kernel.inspect_asm().values())
"""

_ON_STACK = re.compile(r"-?\d*\(%rsp\), %[yz]mm|%[yz]mm\d+, -?\d*\(%rsp\)")


def loops(machine_code):
    """Return the innermost loops, from label to jump, that multiply for as many sums as a tile has."""
    _, *parts = re.split(r"^(\.LBB\w+):", machine_code, flags=re.MULTILINE)
    repeated = [
        re.search(rf"^(.*)\bj\w+\t{re.escape(label)}\n", code, re.DOTALL)
        for label, code in zip(parts[::2], parts[1::2], strict=True)
    ]
    return [match[1] for match in repeated if match and match[1].count("vfmadd") >= 12]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads machine code of x86")
@pytest.mark.parametrize(
    ("cpu", "features"),
    [("haswell", NARROW), ("znver3", NARROW), ("skylake-avx512", WIDE), ("znver4", WIDE), ("znver5", WIDE)],
)
def test_sums_stay_in_registers(tmp_path, cpu, features):
    environment = os.environ | {
        "NUMBA_CPU_NAME": cpu,
        "NUMBA_CPU_FEATURES": features,
        "DISTDL_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    for kernel in done.stdout.split("kernel:")[1:]:
        found = loops(kernel)
        assert found
        assert [code for code in found if _ON_STACK.search(code)] == []
