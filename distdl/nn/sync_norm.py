"""Batch normalisation by the statistics of all ranks' rows."""

import copy
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..core import checks
from .module import Module
from .norm import BatchNorm1d, BatchNorm2d, _BatchNorm


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation over all axes but the last, of the rows of all ranks (H. Zhang et al., CVPR 2018).

    In training, ranks meet in every forward pass, and in the backward pass wherever the gradient of the input is
    needed: so all must run both, a rank without rows with an empty batch. Within `join()` ranks whose batches are
    used up take part by themselves. Gradients are those of the global batch, also where ranks have different
    numbers of rows; that takes one more small reduction a backward(). Where a rank has few rows this trains better
    than `BatchNorm2d`; it costs two reductions a layer and step.

    Args:
        num_features, eps, momentum, affine, track_running_stats: see `BatchNorm2d`.
        comm: the ranks: those of the synchronizer of gradients.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        comm: Any,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        if not hasattr(comm, "allreduce_with_guests"):
            raise checks.bad_type("comm", comm, "must be a communicator, such as distdl.world()")
        self.comm = comm
        # Layers are made in the same order on all ranks.
        self.number = comm.meetings.made
        comm.meetings.made += 1
        comm.meetings.layers[self] = comm

    def __deepcopy__(self, memo: dict[int, Any]) -> "SyncBatchNorm":
        made = object.__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        self.comm.meetings.layers[made] = self.comm
        return made

    def _add_up(self, sums: np.ndarray) -> Any:
        # Three rows come forward, two backward.
        return self.comm.allreduce_with_guests(sums, 2 * self.number + (len(sums) == 2))

    def _check(self, x: Tensor) -> None:
        if x.ndim < 2 or x.shape[-1] != self.num_features:
            raise checks.bad_value("x", f"shape {x.shape}", f"must have shape (rows, ..., {self.num_features})")

    @classmethod
    def convert(cls, module: Module, comm: Any) -> Module:
        """Replace every batch norm within a module by a synchronized one with the same parameters and buffers.

        Subclasses of batch norm stay; hooks go. Call it before an optimizer is made.

        Args:
            module: changed in place; a batch norm itself is not changed.
            comm: the ranks.

        Returns:
            The module, or what replaces it.
        """
        made: dict[int, SyncBatchNorm] = {}

        def replace(norm: Module) -> SyncBatchNorm:
            if id(norm) not in made:
                made[id(norm)] = cls._from(norm, comm)
            return made[id(norm)]

        if type(module) in (BatchNorm1d, BatchNorm2d):
            return replace(module)
        for parent in list(module.modules()):
            for name, child in list(parent._modules.items()):
                if type(child) in (BatchNorm1d, BatchNorm2d):
                    setattr(parent, name, replace(child))
        return module

    @classmethod
    def _from(cls, norm: Any, comm: Any) -> "SyncBatchNorm":
        affine = norm.weight is not None
        made = cls(norm.num_features, norm.eps, norm.momentum, affine, norm.track_running_stats, comm=comm)
        if affine:
            made.weight, made.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            made.register_buffer(name, buffer)
        made.train(norm.training)
        return made
