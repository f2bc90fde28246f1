"""Every kernel does what its reference does."""

import importlib
import inspect
import pkgutil
import zlib

import numpy as np
import pytest

import distdl.kernels
from distdl.core import memory
from distdl.kernels.registry import KERNELS, dense, kernel

from . import cases_compression, cases_rows, cases_vector  # noqa: F401
from .cases import CASES

for module in pkgutil.iter_modules(distdl.kernels.__path__):
    importlib.import_module(f"distdl.kernels.{module.name}")


def copies(args):
    """Copy arrays to where those of the pool begin."""
    return [copied(arg) if isinstance(arg, np.ndarray) else arg for arg in args]


def copied(array):
    copy = memory.empty(array.shape, array.dtype)
    copy[...] = array
    return copy


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, dtype) for name in sorted(KERNELS) for dtype in KERNELS[name].types]
)
def test_a_kernel_does_what_its_reference_does(name, dtype):
    """On drawn arguments, all arrays but working memory are left as the reference leaves them, inputs included."""
    assert name in CASES, f"tests/kernels/cases.py draws no arguments for kernel {name!r}"
    tolerance = 2e-5 if dtype == "float32" else 1e-11
    parameters = list(inspect.signature(KERNELS[name].reference).parameters)
    drawn = 0
    for args in CASES[name](np.random.default_rng(zlib.crc32(name.encode())), np.dtype(dtype)):
        drawn += 1
        ours, theirs = copies(args), copies(args)
        KERNELS[name].compiled(*ours)
        KERNELS[name].reference(*theirs)
        for parameter, a, b in zip(parameters, ours, theirs, strict=True):
            if isinstance(a, np.ndarray) and parameter not in KERNELS[name].working:
                scale = np.abs(b[np.isfinite(b)]).max(initial=1.0)
                np.testing.assert_allclose(
                    a, b, rtol=tolerance, atol=tolerance * scale, err_msg=f"{name}, argument {parameter}"
                )
    assert drawn > 0


def test_every_case_has_a_kernel():
    """No arguments are drawn for a kernel that is gone."""
    assert set(CASES) <= set(KERNELS)


def test_a_kernel_without_a_reference_is_refused():
    """`kernel` cannot be used without a reference."""
    with pytest.raises(TypeError, match="reference"):
        kernel()


def test_a_reference_with_other_parameters_is_refused():
    """Kernel and reference have one signature."""
    with pytest.raises(ValueError, match="same parameters"):

        @kernel(reference=lambda a, b: None)
        def unheard_of(a, c):
            pass

    assert "unheard_of" not in KERNELS


def test_a_name_is_registered_once():
    """Two kernels of one name are an error."""
    with pytest.raises(ValueError, match="twice"):

        @kernel(reference=lambda x, total: None)
        def sum_rows(x, total):
            pass


def test_dense_copies_only_what_kernels_cannot_take():
    """A contiguous writable native array passes as it is; views, read-only and swapped ones are copied."""
    plain = np.arange(12.0).reshape(3, 4)
    assert dense(plain) is plain
    read_only = plain.copy()
    read_only.flags.writeable = False
    for other in (plain.T, plain[:, ::2], np.broadcast_to(plain[0], (5, 4)), read_only, plain.astype(">f8")):
        copy = dense(other)
        assert copy.flags.c_contiguous
        assert copy.flags.writeable
        assert copy.dtype.isnative
        np.testing.assert_array_equal(copy, other)
