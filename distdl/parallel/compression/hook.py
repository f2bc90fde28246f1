"""What a compression hook is: it adds up gradients over nodes, with fewer bytes on the wire."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import ArgumentError, DistdlError

if TYPE_CHECKING:
    from ...comm import Communicator

State = Mapping[str, np.ndarray]
"""Arrays by name."""


@dataclass(frozen=True)
class Gradients:
    """The gradients of a bucket, which are reduced together.

    Attributes:
        index: number of the bucket.
        flat: all of them in float32, one after another, with zeros in gaps between them.
        names: of the parameters.
        arrays: the gradient of each, a view of `flat` of the parameter's shape.
    """

    index: int
    flat: np.ndarray
    names: list[str]
    arrays: list[np.ndarray]


class Hook(ABC):
    """Adds up gradients over the nodes of a job; a subclass says how.

    One rank of each node calls it, with the node's share of the global mean gradient. It serves one synchronizer.

    Attributes:
        name: what it is called in messages and checkpoints.
    """

    name: str
    _is_taken = False

    def prepare(self, buckets: Sequence[Gradients], comm: Communicator) -> None:
        """Make room for what is kept from step to step; called once, before the first reduction.

        Args:
            buckets: all that will be reduced; what their arrays hold means nothing yet.
            comm: the first ranks of all nodes, at least two.
        """
        if self._is_taken:
            raise DistdlError(f"this compression hook ({self.name}) is in use already: give each optimizer its own")
        self._is_taken = True

    @abstractmethod
    def reduce(self, gradients: Gradients, comm: Communicator) -> None:
        """Replace the gradients of a bucket by their sum over the ranks of `comm`, or what stands for it.

        The result must be the same bits on all ranks: as collectives give them, and what is computed from what they
        gave, in the same order. If a gradient is NaN or infinite on a rank, so is the result on all: the step is left
        out then. Buckets come in the same order on all ranks, perhaps in another thread than the main one.
        """

    def state(self, comm: Communicator) -> dict[str, np.ndarray]:
        """Return what decides coming reductions, the same on all ranks, copied. A collective."""
        return {}

    def load_state(self, state: State, comm: Communicator) -> None:
        """Take over what `state` returned, perhaps on another number of ranks. A collective.

        Raises:
            ArgumentError: it is of other parameters or settings.
        """
        if state:
            held = ", ".join(sorted(state))[:80]
            raise ArgumentError(f"`state` holds {held}; compression {self.name!r} has none")
