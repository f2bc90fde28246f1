"""Every differentiable operation passes gradcheck, and keeps float32."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from distdl.autograd import Tensor, apply, gradcheck
from distdl.ops.registry import OPS, op

for _path in sorted((Path(__file__).parent.parent.parent / "distdl" / "ops").glob("*.py")):
    importlib.import_module(f"distdl.ops.{_path.stem}")

CASES = {}
for _path in sorted(Path(__file__).parent.glob("cases_*.py")):
    CASES.update(importlib.import_module(f"tests.ops.{_path.stem}").CASES)

ALL = [pytest.param(name, case, id=f"{name}-{i}") for name in sorted(CASES) for i, case in enumerate(CASES[name])]


def is_float(arg):
    return isinstance(arg, np.ndarray) and arg.dtype.kind == "f"


def run(name, case, dtype):
    args = [Tensor(arg.astype(dtype), requires_grad=True) if is_float(arg) else arg for arg in case.args]
    return args, lambda *tensors: apply(OPS[name], *tensors, **case.options)


def test_every_operation_has_a_case():
    """An operation without a case, or a case without an operation, fails."""
    assert set(CASES) == {name for name, function in OPS.items() if function.__module__.startswith("distdl.")}
    assert all(CASES.values())


@pytest.mark.parametrize(("name", "case"), ALL)
def test_gradients_are_those_of_finite_differences(name, case):
    """The gradient by every float argument agrees with central differences in float64."""
    args, function = run(name, case, np.float64)
    if any(isinstance(arg, Tensor) and arg.size for arg in args):
        assert gradcheck(function, args)


@pytest.mark.parametrize(("name", "case"), ALL)
def test_float32_stays_float32(name, case):
    """Neither results nor gradients are promoted."""
    if name == "astype":
        return
    args, function = run(name, case, np.float32)
    y = function(*args)
    assert y.dtype == np.float32
    y.backward(np.ones(y.shape, np.float32))
    for arg in args:
        if isinstance(arg, Tensor) and arg.grad is not None:
            assert arg.grad.dtype == np.float32
            assert arg.grad.shape == arg.shape


def test_a_name_is_registered_once():
    """Two operations of one name are refused."""

    def add(a, b):
        return a + b, lambda dy: (dy, dy)

    with pytest.raises(ValueError, match="registered twice"):
        op(add)
