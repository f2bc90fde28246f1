"""Sixteen bits a gradient on the wire: `bf16` and `fp16`.

A rank adds up its piece of all ranks' gradients in float32, and rounds the sum once more, for all alike: each
gradient is rounded twice, however many ranks there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...kernels import half
from .hook import Gradients, Hook

if TYPE_CHECKING:
    from ...comm import Communicator

_ALIGNMENT = 64
"""Elements: pieces begin on a cache line."""


class _Halves(Hook):
    """What both have in common: each encodes into sixteen bits, and sums what was encoded."""

    def prepare(self, buckets: Sequence[Gradients], comm: Communicator) -> None:
        super().prepare(buckets, comm)
        self._wires = []
        for gradients in buckets:
            piece = -(-gradients.flat.size // (comm.size * _ALIGNMENT)) * _ALIGNMENT
            self._wires.append(np.zeros((comm.size, piece), np.uint16))

    def reduce(self, gradients: Gradients, comm: Communicator) -> None:
        flat, wire = gradients.flat, self._wires[gradients.index]
        self._encode(flat, wire.reshape(-1)[: flat.size])
        arrived = comm.alltoall(wire)
        total = np.empty(wire.shape[1], np.float32)
        self._sum(arrived, total)
        self._encode(total, wire[0])
        everything = comm.allgather(wire[0])
        self._sum(everything.reshape(1, -1)[:, : flat.size], flat)

    def _encode(self, x: np.ndarray, y: np.ndarray) -> None:
        raise NotImplementedError

    def _sum(self, rows: np.ndarray, total: np.ndarray) -> None:
        raise NotImplementedError


class BF16(_Halves):
    """bfloat16: the range of float32 with 8 significant bits; nothing overflows that would not in float32."""

    name = "bf16"

    def _encode(self, x: np.ndarray, y: np.ndarray) -> None:
        half.to_bfloat16(x, y)

    def _sum(self, rows: np.ndarray, total: np.ndarray) -> None:
        half.sum_bfloat16(rows, total)


class FP16(_Halves):
    """float16: 11 significant bits from 6e-5 to 65,504, fewer down to 6e-8; what is beyond becomes infinite or 0.

    A step with an infinite gradient is left out, see `max_skipped` of `DistributedOptimizer`.
    """

    name = "fp16"

    def _encode(self, x: np.ndarray, y: np.ndarray) -> None:
        half.to_float16(x, y)

    def _sum(self, rows: np.ndarray, total: np.ndarray) -> None:
        half.sum_float16(rows, total)
