"""How a bucket is reduced with a hook: exactly within each node, by the hook between the nodes' first ranks.

What travels beside gradients (weights, flags, hashes) goes by a small exact allreduce ahead. So the sum of the weights
is known before gradients are compressed, and hooks get shares of the mean itself, in the same units at every step:
what they keep for later counts right whatever the batches are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...autograd import Parameter
from ...core import checks, spans
from ...core.errors import PeerError
from ..bucket import Bucket
from ..start import disagreement
from .hook import Gradients, Hook, State

if TYPE_CHECKING:
    from ...comm import Communicator


class OverNodes:
    """Reduces buckets with a hook.

    Attributes:
        hook: as given.
        node: the ranks of this node, of whose memory buckets are best made.

    Args:
        hook: one that has no other synchronizer.
        node: the ranks of this node.
        first: the first ranks of all nodes; None on others.
    """

    def __init__(self, hook: Hook, node: Communicator, first: Communicator | None):
        self.hook = hook
        self.node = node
        self._first = first
        self._buckets: list[Bucket] = []
        self._gradients: list[Gradients] = []

    def beside(self) -> OverNodes:
        """Return the same for a thread that reduces while another computes; see `Communicator.beside`. A collective."""
        return OverNodes(self.hook, self.node.beside(), None if self._first is None else self._first.beside())

    def prepare(self, buckets: Sequence[Bucket], names: dict[int, str]) -> None:
        """Show the hook the buckets; `names` of parameters by their identity."""
        self._buckets = list(buckets)
        self._gradients = [
            Gradients(i, bucket.gradients, [names[id(parameter)] for parameter in bucket.parameters], bucket.views)
            for i, bucket in enumerate(buckets)
        ]
        if self._first is not None:
            self.hook.prepare(self._gradients, self._first)

    def reduce(self, index: int, comm: Communicator, mean_weight: float, scale: float, label: str) -> None:
        """Make the global mean of a bucket's gradients, which are scaled by each rank's weight over `mean_weight`.

        Args:
            index: of the bucket; what lies behind its gradients is added up exactly, and multiplied by `scale`.
            comm: all ranks.
            mean_weight: the same on all ranks.
            scale: as for `Communicator.allreduce`.
            label: of the reduction.
        """
        bucket = self._buckets[index]
        behind = bucket.behind.copy()
        comm.allreduce(behind, scale=scale, label=label)
        bucket.behind[...] = behind
        total = bucket.weight / scale
        if total <= 0:
            bucket.gradients.fill(0)
            return
        if self.node.size == 1:
            bucket.scale(mean_weight / total)
        else:
            self.node.allreduce(bucket.flat, scale=mean_weight / total, label=f"{label}, within a node")
        if self._first is not None:
            with spans.span(f"compression {self.hook.name}"):
                self.hook.reduce(self._gradients[index], self._first)
        if self.node.size > 1:
            self.node.broadcast(bucket.flat)
            bucket.behind[...] = behind

    def state(self) -> dict[str, np.ndarray]:
        """Return the state of the hook, on the first ranks of nodes; nothing on others."""
        return {} if self._first is None else self.hook.state(self._first)

    def load_state(self, state: State) -> None:
        """Take over what `state` returned on rank 0; all ranks have it."""
        if self._first is not None:
            self.hook.load_state(state, self._first)


def over_nodes(comm: Communicator, hook: Hook | None, named: Sequence[tuple[str, Parameter]]) -> OverNodes | None:
    """Return what reduces with a hook; None without one, or where all ranks share a node, whose memory needs none.

    Raises:
        ArgumentError: a parameter is not of float32.
        PeerError: ranks give different hooks.
    """
    apart = disagreement(comm, {"compression": None if hook is None else hook.name})
    if apart is not None:
        raise PeerError(f"`compression` is {apart.first!r} on rank 0, and {apart.other!r} on rank {apart.rank}")
    if hook is None:
        return None
    for name, parameter in named:
        if parameter.dtype != np.float32:
            rule = f"is for gradients of float32, and {name!r} is of {parameter.dtype}"
            raise checks.bad_value("compression", hook.name, rule)
    node, first = comm.split_by_node()
    return None if node.size == comm.size else OverNodes(hook, node, first)
