"""The sums of a tile stay in registers, whichever CPU the compiler is told of."""

import platform
import re

import pytest

from .compiling import output

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

_ON_STACK = re.compile(r"\(%rsp\)(\{1to\d+\})?, %[yz]mm|%[yz]mm\d+, -?\d*\(%rsp\)")


def loops(machine_code):
    """Return the innermost loops, from label to jump, that multiply."""
    _, *parts = re.split(r"^(\.LBB\w+):", machine_code, flags=re.MULTILINE)
    repeated = [
        re.search(rf"^(.*)\bj\w+\t{re.escape(label)}\n", code, re.DOTALL)
        for label, code in zip(parts[::2], parts[1::2], strict=True)
    ]
    return [match[1] for match in repeated if match and "vfmadd" in match[1]]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads machine code of x86")
@pytest.mark.parametrize("cpu", ["haswell", "znver3", "x86-64-v3", "skylake-avx512", "znver4", "znver5", "x86-64-v4"])
def test_sums_stay_in_registers(tmp_path, cpu):
    """Loops of whole tiles, of 12 or 24 sums, move no vector to or from the stack, whatever the model of the CPU."""
    is_wide = cpu in ("skylake-avx512", "znver4", "znver5", "x86-64-v4")
    variables = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": WIDE if is_wide else NARROW}
    kernels = output(PROGRAM, tmp_path, variables).split("kernel:")[1:]
    assert len(kernels) == 3
    for kernel in kernels:
        found = [code for code in loops(kernel) if code.count("vfmadd") >= 12]
        assert max(code.count("vfmadd") for code in found) >= (24 if is_wide else 12)
        assert [code for code in found if _ON_STACK.search(code)] == []
