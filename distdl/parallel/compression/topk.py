"""`TopK`: only the gradients that are greatest by size go over the wire, with their places; the rest waits.

S. U. Stich, J.-B. Cordonnier, M. Jaggi, "Sparsified SGD with memory", NeurIPS 2018 (arXiv 1809.07599); see also Y. Lin,
S. Han, H. Mao, Y. Wang, W. J. Dally, "Deep gradient compression", ICLR 2018 (arXiv 1712.01887), whose corrections of
momentum are not made here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...core import checks
from ...kernels.finite import is_finite
from ...kernels.select import add_at, select_greatest
from .hook import Gradients, Hook, State
from .residuals import Residuals

if TYPE_CHECKING:
    from ...comm import Communicator


class TopK(Hook):
    """Each node sends a share of its gradients, those that are greatest in each bucket, and keeps the others.

    What arrives grows with the number of nodes: on n nodes n * share * 8 bytes for each gradient.

    Args:
        share: of the gradients that are sent, within (0, 1].
    """

    name = "topk"

    def __init__(self, share: float = 0.01):
        self.share = checks.real("share", share, above=0, maximum=1)
        self._residuals = Residuals()
        self._left: list[np.ndarray] = []
        self._chosen: list[np.ndarray] = []

    def prepare(self, buckets: Sequence[Gradients], comm: Communicator) -> None:
        super().prepare(buckets, comm)
        for gradients in buckets:
            left = np.zeros_like(gradients.flat)
            start = gradients.flat.ctypes.data
            for name, array in zip(gradients.names, gradients.arrays, strict=True):
                first = (array.ctypes.data - start) // left.itemsize
                self._residuals.arrays[name] = left[first : first + array.size].reshape(array.shape)
            self._left.append(left)
            count = math.ceil(self.share * sum(array.size for array in gradients.arrays))
            # Places and values, bit by bit, in one message.
            self._chosen.append(np.empty((2, count), np.int32))
        self._spare = np.empty(max(left.size for left in self._left), np.int32)

    def reduce(self, gradients: Gradients, comm: Communicator) -> None:
        flat, left, chosen = gradients.flat, self._left[gradients.index], self._chosen[gradients.index]
        flat += left
        places, values = chosen[0], chosen[1].view(np.float32)
        select_greatest(flat, places, self._spare)
        values[...] = flat[places]
        everybodys = comm.allgather(chosen)
        # The same on all ranks; what they keep must outlive a step that is left out. NaN is chosen first.
        if not is_finite(everybodys[:, 1].view(np.float32)):
            for array in gradients.arrays:
                array.fill(np.nan)
            return
        left[...] = flat
        left[places] = 0
        flat.fill(0)
        for theirs in everybodys:
            add_at(theirs[0], theirs[1].view(np.float32), flat)

    def state(self, comm: Communicator) -> dict[str, np.ndarray]:
        return self._residuals.share(comm)

    def load_state(self, state: State, comm: Communicator) -> None:
        self._residuals.load(state, comm)
