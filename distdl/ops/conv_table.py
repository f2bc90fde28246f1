"""Which algorithm convolves fastest, as measured: the table that ships with the project, and how it is read.

`conv_table.json` holds, for each kind of CPU, milliseconds of a forward and a backward pass by algorithm.
A shape that was not measured takes the winner of the nearest one. So the choice depends on one image, the
weights and the kind of CPU: never on the batch, the rank or a timing of this run, for the bits depend on it.
`scripts/measure_convolutions.py` makes the table, `distdl convolutions` prints it.
"""

import functools
import json
import math
from dataclasses import dataclass
from importlib import resources

from ..kernels.cpu import CPU_KIND
from .conv_geometry import Geometry


@dataclass(frozen=True)
class Shape:
    """What the choice depends on: extents of the kernel, of a step, of channels and of the results."""

    kernel: int
    stride: int
    inputs: int
    outputs: int
    size: int

    @classmethod
    def of(cls, g: Geometry) -> "Shape":
        return cls(max(g.kernel), max(g.stride), g.inputs, g.outputs, max(1, math.isqrt(g.out[0] * g.out[1])))

    def distance(self, other: "Shape") -> float:
        """Return how unlike two shapes are; kernel and stride weigh most."""
        pairs = (
            (self.kernel, other.kernel, 8),
            (self.stride, other.stride, 8),
            (self.inputs, other.inputs, 1),
            (self.outputs, other.outputs, 1),
            (self.size, other.size, 0.5),
        )
        return sum(weight * abs(math.log2(a / b)) for a, b, weight in pairs)


@dataclass(frozen=True)
class Entry:
    """One shape, and the milliseconds of each algorithm that suits it."""

    shape: Shape
    milliseconds: dict[str, float]

    @property
    def winner(self) -> str:
        return min(self.milliseconds, key=lambda name: self.milliseconds[name])


@functools.cache
def table(cpu: str = CPU_KIND) -> tuple[Entry, ...]:
    """Return what was measured on a kind of CPU: "avx512", or "avx2", which stands for all others."""
    text = resources.files(__package__).joinpath("conv_table.json").read_text("utf-8")
    return tuple(Entry(Shape(*shape), times) for shape, times in json.loads(text)[cpu])


@functools.lru_cache(1024)
def fastest(shape: Shape, suiting: tuple[str, ...]) -> str:
    """Return which of the algorithms that suit a shape is likely the fastest."""
    known = [entry for entry in table() if set(suiting) <= set(entry.milliseconds)]
    nearest = min(known, key=lambda entry: shape.distance(entry.shape))
    return min(suiting, key=lambda name: nearest.milliseconds[name])
