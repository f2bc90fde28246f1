"""No kernel reads or writes outside its arrays: they lie against pages that may not be touched."""

import ctypes
import mmap
import subprocess
import sys

import numpy as np
import pytest

from distdl.kernels.registry import KERNELS

from . import cases_compression, cases_rows, cases_vector, test_registry  # noqa: F401
from .cases import CASES

_NO_ACCESS = 0


def guarded(array: np.ndarray, at_end: bool) -> np.ndarray:
    """Copy an array to memory with a forbidden page right behind its end, or right before its start."""
    page = mmap.PAGESIZE
    pages = -(-max(array.nbytes, 1) // page)
    memory = mmap.mmap(-1, (pages + 1) * page)
    raw = np.frombuffer(memory, np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    forbidden = raw.ctypes.data + (pages * page if at_end else 0)
    assert libc.mprotect(ctypes.c_void_p(forbidden), ctypes.c_size_t(page), _NO_ACCESS) == 0
    start = pages * page - array.nbytes if at_end else page
    copy = np.frombuffer(memory, array.dtype, array.size, start).reshape(array.shape)
    copy[...] = array
    return copy


def run(name: str, dtype: str) -> None:
    """Run a kernel on guarded copies of its drawn arguments."""
    for args in CASES[name](np.random.default_rng(0), np.dtype(dtype)):
        for at_end in (True, False):
            KERNELS[name].compiled(*(guarded(a, at_end) if isinstance(a, np.ndarray) else a for a in args))


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_kernel_touches_what_is_outside_its_arrays(dtype):
    """Every kernel runs with forbidden pages before and behind every array; a slip would kill the process."""
    names = [name for name in sorted(KERNELS) if dtype in KERNELS[name].types]
    code = "from tests.kernels.test_guard_pages import run\n" + "\n".join(
        f"print({name!r}, flush=True); run({name!r}, {dtype!r})" for name in names
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 0, f"died after {result.stdout.split()[-1:]}: {result.stderr[-2000:]}"
    assert result.stdout.split() == names


def test_a_slip_is_seen():
    """One element behind a guarded array kills the process that reads it."""
    code = (
        "import ctypes, numpy as np; from tests.kernels.test_guard_pages import guarded\n"
        "a = guarded(np.zeros(5, np.float32), {}); ctypes.c_float.from_address(a.ctypes.data + {})"
    )
    for at_end, offset in ((True, 20), (False, -4)):
        result = subprocess.run(
            [sys.executable, "-c", code.format(at_end, offset) + ".value"], capture_output=True, check=False, timeout=60
        )
        assert result.returncode < 0
