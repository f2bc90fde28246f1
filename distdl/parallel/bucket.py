"""Flat gradient buckets: what backward writes into is what goes over the wire."""

from collections.abc import Callable, Sequence

import numpy as np

from ..autograd import Parameter
from ..core import memory
from . import lockstep

_ALIGNMENT = 64
"""Bytes: every gradient starts on a cache line."""

WEIGHT_SLOTS = 2
"""The sum of weights travels as two numbers, the rounded sum and what rounding cut off."""

Zeros = Callable[[int, np.dtype], np.ndarray]
"""Gives an array of so many zeros, which starts on a cache line."""

Earlier = tuple[np.ndarray, list[bool]]
"""Gradients of a bucket put aside, and which parameters had one."""


class Bucket:
    """The gradients of some parameters of one dtype, one after another in one array.

    Behind the gradients lie, in the same array and so in the same reduction, the rank's weight, whether it
    has no more batches, whether it asks all to leave, what `Lockstep` adds, and for each parameter whether it took part
    here.

    Args:
        parameters: of one dtype; each gets its view as the place of its gradient.
        zeros: gives the array.

    Attributes:
        flat: all of it; what is reduced.
        gradients: the part that holds gradients.
        behind: the rest.
        done: one number, how many ranks have no more batches.
        leaving: one number, above 0 if any rank asks all to leave.
        numbers: those of `Lockstep`.
    """

    def __init__(self, parameters: Sequence[Parameter], zeros: Zeros = memory.zeros):
        self.parameters = list(parameters)
        dtype = parameters[0].dtype
        step = _ALIGNMENT // dtype.itemsize
        starts = []
        end = 0
        for parameter in parameters:
            starts.append(end)
            end += -(-parameter.size // step) * step
        slots = WEIGHT_SLOTS, 1, 1, lockstep.SLOTS, len(self.parameters)
        self.flat = zeros(end + sum(slots), dtype)
        self.gradients, self.behind = self.flat[:end], self.flat[end:]
        parts = np.split(self.behind, np.cumsum(slots)[:-1])
        self._weight, self.done, self.leaving, self.numbers, self._used = parts
        self.views = [
            self.flat[start : start + parameter.size].reshape(parameter.shape)
            for start, parameter in zip(starts, parameters, strict=True)
        ]

    def collect(self) -> None:
        """Bring every gradient into its view, zeros for those that took no part, and note which did."""
        for i, (parameter, view) in enumerate(zip(self.parameters, self.views, strict=True)):
            self._used[i] = parameter.grad is not None
            if parameter.grad is None:
                view.fill(0)
            elif parameter.grad is not view:
                view[...] = parameter.grad

    def release(self) -> None:
        """After the reduction, give every parameter that took part on some rank its view as `.grad`."""
        for parameter, view, used in zip(self.parameters, self.views, self._used, strict=True):
            parameter.grad = view if used > 0 else None

    def copy(self) -> Earlier:
        """Copy the gradients out."""
        self.collect()
        return self.gradients.copy(), [parameter.grad is not None for parameter in self.parameters]

    def restore(self, earlier: Earlier) -> None:
        """Put back what `copy` copied out."""
        self.gradients[...], used = earlier
        for parameter, view, was_used in zip(self.parameters, self.views, used, strict=True):
            parameter.grad = view if was_used else None

    def take(self) -> Earlier:
        """Copy the gradients out, and leave every parameter without one."""
        taken = self.copy()
        self.forget()
        return taken

    def forget(self) -> None:
        """Leave every parameter without a gradient."""
        for parameter in self.parameters:
            parameter.grad = None

    def add(self, earlier: Earlier) -> None:
        """Add gradients that `take` has copied out."""
        gradients, used = earlier
        self.gradients += gradients
        for parameter, view, was_used in zip(self.parameters, self.views, used, strict=True):
            if was_used:
                parameter.grad = view

    @property
    def weight(self) -> float:
        """The rank's weight; after the reduction their sum."""
        return float(self._weight[0]) + float(self._weight[1])

    @weight.setter
    def weight(self, value: float) -> None:
        self._weight[0] = value
        self._weight[1] = value - float(self._weight[0])

    def scale(self, factor: float) -> None:
        """Multiply the gradients by a factor; by what rounds to 1 nothing is done."""
        rounded = self.flat.dtype.type(factor)
        if rounded != 1:
            np.multiply(self.gradients, rounded, out=self.gradients)


def group(parameters: Sequence[Parameter], bucket_bytes: int) -> list[list[Parameter]]:
    """Cut parameters into buckets of one dtype, last parameters first; one that has reached `bucket_bytes` is full.

    Backward finds the gradients of the last layers first, so that their bucket is full first.
    """
    open_groups: dict[str, list[Parameter]] = {}
    sizes: dict[str, int] = {}
    groups: list[list[Parameter]] = []
    for parameter in reversed(parameters):
        kind = parameter.dtype.str
        open_groups.setdefault(kind, []).append(parameter)
        sizes[kind] = sizes.get(kind, 0) + parameter.data.nbytes
        if sizes[kind] >= bucket_bytes:
            groups.append(open_groups.pop(kind))
            sizes[kind] = 0
    return [*groups, *open_groups.values()]
