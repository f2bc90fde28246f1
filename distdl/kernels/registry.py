"""The register of kernels, and what a kernel is.

A kernel is a compiled function that reads arrays and writes its results into other arrays, its
output arguments. Its reference is a plain NumPy function of the same arguments which defines it:

    @kernel(reference=_double)
    def double(x, y):
        for i in range(x.size):
            y[i] = x[i] + x[i]

One test walks the register and compares each kernel with its reference. Arrays must be dense (see
`dense`), so that a kernel compiles once for each type of float.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numba.extending import register_jitable

from .compile import jit
from .parts import PartCompiler

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Kernel:
    """A compiled function and the NumPy function that says what it does.

    Attributes:
        types: floats that it takes.
        working: parameters that are working memory: what they hold afterwards means nothing.
    """

    compiled: Callable[..., Any]
    reference: Callable[..., Any]
    types: tuple[str, ...]
    working: tuple[str, ...]


KERNELS: dict[str, Kernel] = {}

HELPERS: set[str] = set()
"""Names of the functions that kernels call."""


def kernel(
    *,
    reference: Callable[..., Any],
    reassociate: bool = False,
    contract: bool = True,
    types: tuple[str, ...] = ("float32", "float64"),
    working: tuple[str, ...] = (),
) -> Callable[..., Callable[..., None]]:
    """Compile and register a kernel under its own name.

    Args:
        reference: NumPy function of the same parameters.
        reassociate: let the compiler change the order of sums (needed to vectorise a sum).
        contract: let it round a product and a sum once together. Which ones is up to where the code was inlined.
        types, working: see `Kernel`.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        name = function.__name__
        if name in KERNELS:
            raise ValueError(f"kernel {name!r} is registered twice")
        if list(inspect.signature(function).parameters) != list(inspect.signature(reference).parameters):
            raise ValueError(f"kernel {name!r} and its reference must have the same parameters")
        compiled = jit(function, reassociate, contract)
        KERNELS[name] = Kernel(compiled, reference, types, working)
        return compiled

    return register


def helper(function: Callable[..., Any], forceinline: bool = False) -> Any:
    """Let kernels call a function: it is compiled as a part of them, without the ways in from Python, and not kept.

    Kernels that were compiled in different processes bring their own copies of it, and the linker takes the first of a
    name and number. So no two functions may share a name.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    if name in HELPERS:
        raise ValueError(
            f"helper {name} is registered twice: kernels from different processes would take one for the other"
        )
    HELPERS.add(name)
    options = {"error_model": "numpy", "fastmath": {"contract"}, "forceinline": forceinline, "no_cfunc_wrapper": True}
    return register_jitable(**options, pipeline_class=PartCompiler)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Do what `helper` does for a function of vectors: where it is called, its body stands.

    Vectors cannot be passed in registers that are half as wide: a call would send each through memory.
    """
    return helper(function, forceinline=True)


def raw_kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that takes addresses, or waits for others: no test can draw that; it has tests of its own."""
    return jit(function)


def is_dense(array: np.ndarray) -> bool:
    """Say whether an array is such as kernels take it: C-contiguous, aligned, native, writable."""
    return array.flags.carray and array.dtype.isnative


def dense(array: np.ndarray) -> np.ndarray:
    """Return the array itself if it `is_dense`, or a copy that is."""
    if is_dense(array):
        return array
    return np.array(array, array.dtype.newbyteorder("="), order="C", copy=True)
