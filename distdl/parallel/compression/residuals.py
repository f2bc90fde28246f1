"""Error feedback: what a lossy reduction has left out of the gradients is kept, and added to the next ones.

(F. Seide, H. Fu, J. Droppo, G. Li, D. Yu, "1-bit stochastic gradient descent and its application to data-parallel
distributed training of speech DNNs", Interspeech 2014; S. P. Karimireddy, Q. Rebjock, S. U. Stich, M. Jaggi, "Error
feedback fixes SignSGD and other gradient compression schemes", ICML 2019.) So nothing is lost: the sum of all results,
and of what the ranks keep, is the sum of all gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import ArgumentError

if TYPE_CHECKING:
    from ...comm import Communicator
    from .hook import State

_PREFIX = "residual/"


class Residuals:
    """What this rank keeps of the gradients of each parameter.

    Attributes:
        arrays: by name of the parameter, float32.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def share(self, comm: Communicator) -> dict[str, np.ndarray]:
        """Return the sum of what all ranks keep, and let each go on with an equal part of it. A collective.

        A checkpoint then holds one copy of the parameters, on any number of ranks, and a run that takes one goes on as
        one that starts from it.
        """
        result = {}
        for name, residual in self.arrays.items():
            result[_PREFIX + name] = comm.allreduce(residual.copy(), label=f"residual of {name}")
        self.load(result, comm)
        return result

    def load(self, state: State, comm: Communicator) -> None:
        """Take an equal part of what `share` returned.

        Raises:
            ArgumentError: it is of other parameters.
        """
        for name, residual in self.arrays.items():
            total = state.get(_PREFIX + name)
            if total is None or total.size != residual.size:
                found = "is missing" if total is None else f"has shape {total.shape}"
                raise ArgumentError(f"`state` is of other parameters: the residual of {name!r} {found}")
            np.divide(total.reshape(residual.shape), np.float32(comm.size), out=residual)
