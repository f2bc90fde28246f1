"""`PowerSGD`: each gradient matrix goes over the wire as two thin ones.

T. Vogels, S. P. Karimireddy, M. Jaggi, "PowerSGD: practical low-rank gradient compression for distributed
optimization", NeurIPS 2019 (arXiv 1905.13727): one step of a power iteration on the sum of all ranks' matrices, which
goes on from the step before, with error feedback. Each rank keeps what the common subspace does not hold of its own
matrix, M - P P'M, rather than its difference from the mean: the sum over ranks is the same, and no rank's share grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...core import checks, random
from ...core.errors import ArgumentError
from ...kernels.finite import is_finite
from ...kernels.low_rank import orthogonalize, split_low_rank
from ...ops.products import product, weight_gradient
from .hook import Gradients, Hook, State
from .residuals import Residuals

if TYPE_CHECKING:
    from ...comm import Communicator

_WORTH_IT = 2
"""Matrices that would not become so many times smaller go as they are, as do vectors."""

_PREFIX = "start/"


class _Matrix:
    """A gradient that is compressed.

    Attributes:
        whole: (rows, columns), a view of the bucket; the last axis of the parameter has the columns.
        left: (rows, columns), what this rank keeps.
        p: (rows, rank), a view of what the first allreduce adds up.
        q: (columns, rank), a view of what the second does.
        start: (columns, rank), from where the next power iteration goes on; the same on all ranks.
    """

    def __init__(self, name: str, whole: np.ndarray, rank: int):
        self.name = name
        self.whole = whole
        self.left = np.zeros(whole.shape, np.float32)
        self.p = np.empty((len(whole), rank), np.float32)
        self.q = np.empty((whole.shape[1], rank), np.float32)
        self.start = np.zeros(self.q.shape, np.float32)


class _Packed:
    """What of a bucket goes over the wire.

    Attributes:
        matrices: what is compressed.
        exact: what is not, views of the bucket.
        first, second: the arrays of the two allreduces: all p, then `exact`; all q.
        copies: of `exact`, views of `first`.
    """

    def __init__(self, gradients: Gradients, rank: int):
        self.matrices: list[_Matrix] = []
        self.exact: list[np.ndarray] = []
        for name, array in zip(gradients.names, gradients.arrays, strict=True):
            whole = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array.reshape(-1, 1)
            thin = min(rank, *whole.shape)
            if _WORTH_IT * thin * sum(whole.shape) <= whole.size:
                self.matrices.append(_Matrix(name, whole, thin))
            else:
                self.exact.append(array.reshape(-1))
        self.first, views = _together([*(m.p for m in self.matrices), *self.exact])
        self.second, others = _together([m.q for m in self.matrices])
        self.copies = views[len(self.matrices) :]
        for matrix, p, q in zip(self.matrices, views, others, strict=False):
            matrix.p, matrix.q = p, q


class PowerSGD(Hook):
    """Matrices become products of rank `rank`; vectors and small matrices go as they are, in the same allreduce.

    A matrix of (n, m) sends rank * (n + m) numbers. Kernels of convolutions count as matrices of (all else, outputs).

    Args:
        rank: of the products; 1 to 4 is usual, and more is more accurate.
    """

    name = "powersgd"

    def __init__(self, rank: int = 4):
        self.rank = checks.integer("rank", rank, 1)
        self._packed: list[_Packed] = []
        self._residuals = Residuals()
        self._steps = 0

    def prepare(self, buckets: Sequence[Gradients], comm: Communicator) -> None:
        super().prepare(buckets, comm)
        self._packed = [_Packed(gradients, self.rank) for gradients in buckets]
        for matrix in self._matrices():
            self._residuals.arrays[matrix.name] = matrix.left
            self._draw(matrix)

    def reduce(self, gradients: Gradients, comm: Communicator) -> None:
        packed = self._packed[gradients.index]
        self._steps += gradients.index == 0
        for matrix in packed.matrices:
            matrix.whole += matrix.left
            product(matrix.whole, matrix.start, None, False, matrix.p)
        for copy, array in zip(packed.copies, packed.exact, strict=True):
            copy[...] = array
        comm.allreduce(packed.first, label="PowerSGD: first factors")
        for copy, array in zip(packed.copies, packed.exact, strict=True):
            array[...] = copy
        if not packed.matrices:
            return
        for matrix in packed.matrices:
            orthogonalize(matrix.p)
            weight_gradient(matrix.whole, matrix.p, matrix.q)
        own = [np.ascontiguousarray(matrix.q.T) for matrix in packed.matrices]
        comm.allreduce(packed.second, label="PowerSGD: second factors")
        # The same on all ranks; what they keep must outlive a step that is left out.
        if not (is_finite(packed.first) and is_finite(packed.second)):
            for matrix in packed.matrices:
                matrix.whole.fill(np.nan)
            return
        for matrix, mine in zip(packed.matrices, own, strict=True):
            split_low_rank(matrix.p, mine, np.ascontiguousarray(matrix.q.T), matrix.whole, matrix.left)
            matrix.start[...] = matrix.q
            orthogonalize(matrix.start)
            self._draw(matrix)

    def _draw(self, matrix: _Matrix) -> None:
        """Start columns anew that have died, as all do where a gradient is 0."""
        dead = np.flatnonzero(~matrix.start.any(axis=0))
        if len(dead):
            draws = random.generator(f"PowerSGD {matrix.name}", self._steps, seed=0)
            matrix.start[:, dead] = draws.standard_normal((len(matrix.start), len(dead)))

    def _matrices(self) -> list[_Matrix]:
        return [matrix for packed in self._packed for matrix in packed.matrices]

    def state(self, comm: Communicator) -> dict[str, np.ndarray]:
        starts = {_PREFIX + matrix.name: matrix.start.copy() for matrix in self._matrices()}
        return {"steps": np.array(self._steps), **starts, **self._residuals.share(comm)}

    def load_state(self, state: State, comm: Communicator) -> None:
        for matrix in self._matrices():
            start = state.get(_PREFIX + matrix.name)
            if start is None or start.shape != matrix.start.shape:
                found = "is missing" if start is None else f"has shape {start.shape}, not {matrix.start.shape}"
                raise ArgumentError(f"`state` is of another PowerSGD: what {matrix.name!r} starts from {found}")
            matrix.start[...] = start
        self._residuals.load(state, comm)
        self._steps = int(state["steps"])


def _together(arrays: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return a flat array with room for all, and views of it of their shapes."""
    ends = np.cumsum([0, *(array.size for array in arrays)])
    flat = np.zeros(int(ends[-1]), np.float32)
    return flat, [flat[a:b].reshape(array.shape) for a, b, array in zip(ends, ends[1:], arrays, strict=False)]
