"""The register of differentiable operations, and what an operation is.

An operation is a function of arrays that returns its result and a function for its gradient:

    @op
    def multiply(a, b):
        def backward(dy, wanted):
            return sum_to(dy * b, a.shape) if wanted[0] else None, sum_to(dy * a, b.shape) if wanted[1] else None
        return a * b, backward

Positional arguments are what it may be differentiated by (arrays, or plain numbers); options come
by keyword. `backward(dy, wanted)` gets the gradient of the result (same shape and dtype; it must
not be changed in place) and returns one gradient for each positional argument. `wanted[i]` says
what becomes of the i-th: False, it is not needed (return None); True, return an array; an array,
it may be written there (overwriting) and that very array returned, or another array be returned.
`backward(dy)` without `wanted` is allowed too; a single gradient need not be in a tuple.

Of an operation with `joins_relu`, backward(dy, wanted, behind) may get the result of a ReLU that alone
took its result: dy counts where it is positive. So the ReLU needs no pass of its own. With `joins_norm`
it may get the `InputGradient` of a batch norm that alone took its result, and dy is the gradient of the
norm's: `wanted[0]` was LATER there. So this gradient is not written to memory. Of an operation that
`adds`, `wanted[0]` may be an `Onto`: the gradient may be added to the array of that, and that very array
returned, or another array be returned.
"""

from collections.abc import Callable
from typing import Any, TypeVar, overload

import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])

OPS: dict[str, Callable[..., Any]] = {}


class Onto:
    """What becomes of a gradient that may be added to others of its array.

    Attributes:
        sums: what they have added up to: dense, and nobody else's.
    """

    def __init__(self, sums: np.ndarray):
        self.sums = sums


class Later:
    """What becomes of a gradient that may be left to the operation before."""


LATER = Later()


@overload
def op(function: Function) -> Function: ...
@overload
def op(
    *, reads_inputs: bool = True, joins_relu: bool = False, joins_norm: bool = False, adds: bool = False
) -> Callable[[Function], Function]: ...
def op(
    function: Any = None,
    *,
    reads_inputs: bool = True,
    joins_relu: bool = False,
    joins_norm: bool = False,
    adds: bool = False,
) -> Any:
    """Register an operation.

    Args:
        reads_inputs: False if `backward` reads neither the inputs nor the result, so that
            changing them in place after the operation does no harm.
        joins_relu: whether `backward` takes the result of a ReLU behind.
        joins_norm: whether it takes the `InputGradient` of a batch norm behind, too.
        adds: whether it can add its first gradient to others.
    """

    def register(function: Function) -> Function:
        name = function.__name__
        if name in OPS:
            raise ValueError(f"operation {name!r} is registered twice")
        function.reads_inputs = reads_inputs  # type: ignore[attr-defined]
        function.joins_relu = joins_relu or joins_norm  # type: ignore[attr-defined]
        function.joins_norm = joins_norm  # type: ignore[attr-defined]
        function.adds = adds  # type: ignore[attr-defined]
        OPS[name] = function
        return function

    return register if function is None else register(function)
