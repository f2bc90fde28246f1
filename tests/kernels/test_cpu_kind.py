"""What kernels are written for is what they are compiled for, whatever variables say of the CPU."""

import platform
import runpy

import pytest

from distdl.kernels.cpu import CPU_KIND, cpu_features

from .compiling import ROOT, output

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

# Large enough for results to be written past the caches where that pays; 24 channels are no whole number of vectors.
BITS = """
import hashlib
import numpy as np
from distdl.ops import activation, conv, linear, norm
rng = np.random.default_rng(0)
hashed = hashlib.sha256()
def take(function, *shapes, **options):
    y, backward = function(*(rng.standard_normal(shape).astype(np.float32) for shape in shapes), **options)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    wanted = "wanted" in backward.__code__.co_varnames[: backward.__code__.co_argcount]
    gradients = backward(dy, (True,) * len(shapes)) if wanted else backward(dy)
    for array in (y, *(gradients if isinstance(gradients, tuple) else (gradients,))):
        hashed.update(np.ascontiguousarray(array).tobytes())
take(activation.relu, (64, 32, 32, 16))
take(linear.linear, (31, 100), (100, 50), (50,), relu=True)
take(norm.batch_norm, (64, 32, 32, 16), (16,), (16,))
for channels in (16, 24):
    same = {"padding": ((1, 1), (1, 1)), "relu": True}
    take(conv.conv2d, (4, 12, 12, channels), (3, 3, channels, 32), (32,), pool=True, **same)
    take(conv.conv2d, (4, 12, 12, channels), (3, 3, channels, 32), (32,), exact=True, **same)
print(hashed.hexdigest())
"""


def run(directory, **variables):
    """Return the kind of CPU, whether machine code takes registers of sixteen floats, and NumPy's AVX-512 loops."""
    kernels, loops = output(PROGRAM, directory, variables).splitlines()
    kind, wide = kernels.split()
    return kind, wide == "True", loops


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of x86")
def test_benchmarks_hold_to_avx2(tmp_path):
    assert run(tmp_path, **AVX2) == ("avx2", False, "[]")


@pytest.mark.parametrize("variables", [{}, {"NUMBA_CPU_NAME": "haswell"}, {"NUMBA_CPU_NAME": "generic"}])
def test_tiles_fit_the_registers_that_are_compiled_for(tmp_path, variables):
    kind, wide, _ = run(tmp_path, **variables)
    assert (kind == "avx512") == wide


@pytest.mark.skipif(CPU_KIND != "avx512", reason="two kinds of AVX-512 are compared: this CPU has none")
def test_bits_do_not_depend_on_who_made_the_cpu(tmp_path):
    """Masks or branches, past the caches or through them, instructions in this order or that: results are the same."""
    features = cpu_features()
    made = [
        output(BITS, tmp_path, {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features})
        for name in ("sapphirerapids", "znver4")
    ]
    assert made[0] == made[1] != ""
