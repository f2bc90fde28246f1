"""`ReproducibleSynchronizer`: the same bits on any number of ranks.

The global batch is cut into shards, as many on any number of ranks. Forward and backward run shard by shard, with
kernels whose results depend on the shard alone, and gradients are summed over shards in one tree (`shard_sums.py`):

    g = sum_s w_s g_s / sum_s w_s

with w_s the weight of the shard's loss (its rows). What is summed, and in which order, depends on the shards only:
neither on the ranks that hold them, nor on buckets, threads or the MPI library. The promise holds for one kind of
CPU and one set of libraries: `conditions()` says which, and the ranks compare theirs.
"""

import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import random, threads
from ..core.errors import ArgumentError, DistdlError, PeerError
from ..core.shards import check_shards, rows_of
from ..kernels.conditions import conditions
from .lockstep import Lockstep
from .plan import Auto
from .running import RunningBuffers
from .shard_sums import ShardSums
from .start import disagreement
from .synchronizer import GradientSynchronizer, clear_weight, shrinking

if TYPE_CHECKING:
    from ..comm import Communicator


_NO_COMMON_LAYERS = (
    "reproducible mode runs shards one after another, each with its own statistics: synchronized batch norm cannot be "
    "part of it"
)


class ReproducibleSynchronizer(GradientSynchronizer):
    """Gives `.grad` the gradient of the global batch, with bits that do not depend on the number of ranks.

    Every backward() belongs into a loop over `each_shard`, which all ranks run at every step:

        for x, y in loader:                                   # batch_sampler=GlobalBatchSampler(..., shards=8)
            optimizer.zero_grad()
            for x, y in optimizer.each_shard(x, y):
                loss(model(tensor(x)), y).backward()
            optimizer.step()

    Batch norm takes each shard's own statistics; buffers change by the mean over the shards. Gradients are reduced
    when the loop ends. Several rounds before a step add up, as without shards; `no_sync` changes nothing.

    Args:
        parameters: as for `GradientSynchronizer`; with the model's buffers.
        comm: the ranks, at most as many as shards.
        shards: how many parts a global batch is cut into: a power of two.
        bucket_bytes: size at which a bucket is full.
        lockstep: compares the replicas now and then; None: nobody does.

    Attributes:
        mine: this rank's shards.
        shard: the one that is being worked on, None outside of the loop.

    Raises:
        ArgumentError: `shards` is no power of two, or below the number of ranks.
        PeerError: the ranks hold different models, or run on different CPUs or versions of libraries.
    """

    def __init__(
        self,
        parameters: Any,
        comm: "Communicator",
        shards: int = 8,
        bucket_bytes: int | Auto = "auto",
        lockstep: Lockstep | None = None,
    ):
        self.shards = check_shards(shards, comm.size)
        _compare_conditions(comm)
        super().__init__(parameters, comm, bucket_bytes, overlap=False, lockstep=lockstep)
        self._sums = [ShardSums(shards, comm) for _ in self.buckets]
        self._buffers = RunningBuffers([buffer for _, buffer in self.named_buffers], shards, comm)
        self.mine = self._sums[0].mine
        self.shard = None
        self._is_open = False
        self._numbers: Any = 0.0
        threads.fix_sums()
        # Once: at close(), or when nobody needs this any more.
        self._free_sums = weakref.finalize(self, threads.free_sums)

    def _zeros(self, size: int, dtype: np.dtype) -> np.ndarray:
        # The tree of ranks is the upper part of the tree of shards.
        return self._reducing.zeros(size, dtype, in_tree_order=True)

    def close(self) -> None:
        super().close()
        self._free_sums()

    def each_shard(self, *arrays: Any) -> Iterator[Any]:
        """Yield the rows of each of this rank's shards that has any; when the loop ends gradients are reduced.

        Args:
            arrays: this rank's rows of one global batch, as the loader has just given them.

        Raises:
            ArgumentError: they are no batch of a loader that cuts into as many shards.
            DistdlError: an earlier loop was left before its end.
        """
        batch = self._named(arrays)
        if self.comm.size > 1:
            self._check_closed()
        elif self._is_open:
            # Alone one may begin anew.
            self._forget()
        self._is_open = True
        self.comm.meetings.refusal = _NO_COMMON_LAYERS
        self._earlier = [bucket.take() for bucket in self.buckets] if self._has_gradients() else []
        # Before buffers change.
        self._numbers = 0.0 if self.lockstep is None else self.lockstep.numbers()
        self._buffers.begin()
        try:
            for shard, rows, pieces in cut_batch(batch, self.mine, arrays):
                self.shard = shard
                if rows:
                    yield pieces if len(pieces) > 1 else pieces[0]
                self._finish_shard(shard, rows > 0)
        finally:
            self.comm.meetings.refusal = ""
        self.shard = None
        self._is_open = False
        for bucket, sums in zip(self.buckets, self._sums, strict=True):
            sums.reduce(bucket.flat, shrinking(self.shards))
        self._finish(self.shards)
        self._buffers.reduce()

    def begin_backward(self, weight: float | None) -> float:
        if self.shard is None:
            raise DistdlError("in reproducible mode backward() belongs into `for x, y in optimizer.each_shard(x, y):`")
        weight = clear_weight(weight)
        if self._weight not in (0.0, weight):
            raise ArgumentError(
                f"backward() of losses with different weights ({self._weight:g} and {weight:g}) in one shard: "
                "add the losses, or say one weight with loss.backward(weight=rows)"
            )
        self._weight = weight
        return weight / self.mean_weight

    @property
    def is_watching(self) -> bool:
        return False

    def end_backward(self) -> None:
        """Leave the gradients until the shard is done."""

    def settle(self) -> None:
        self._check_closed()

    def _named(self, arrays: tuple[Any, ...]) -> random.Batch:
        batch = random.named_batch()
        rule = f"the loader needs batch_sampler=GlobalBatchSampler(..., shards={self.shards})"
        if batch is None or batch.shards != self.shards:
            cut = "no loader gave them" if batch is None or not batch.shards else f"cut into {batch.shards} shards"
            raise ArgumentError(f"`arrays` must be rows of a global batch in {self.shards} shards ({cut}): {rule}")
        for array in arrays:
            if len(array) != len(batch.samples):
                raise ArgumentError(
                    f"`arrays` must have the {len(batch.samples)} rows of the batch that the loader gave last, "
                    f"not {len(array)}"
                )
        return batch

    def _forget(self) -> None:
        self._weight = 0.0
        for bucket, sums in zip(self.buckets, self._sums, strict=True):
            sums.forget()
            bucket.forget()

    def _check_closed(self) -> None:
        if self._is_open:
            raise DistdlError(
                "a loop over each_shard() was left before its end, so the ranks are out of step: "
                "run it to its end, or let such an error end the job"
            )

    def _finish_shard(self, shard: int, had_rows: bool) -> None:
        # Once for each rank.
        self.buckets[0].numbers[:] = self._numbers if shard == self.mine[0] else 0.0
        for bucket, sums in zip(self.buckets, self._sums, strict=True):
            bucket.collect()
            bucket.weight, bucket.leaving[0] = self._weight, self.asks_to_leave
            sums.add(shard, bucket.flat)
            bucket.forget()
        self._weight = 0.0
        self._buffers.finish_shard(shard, had_rows)


def cut_batch(
    batch: random.Batch, mine: Sequence[int], arrays: tuple[Any, ...]
) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """Yield each of a rank's shards, the number of its rows, and these of all arrays; draws are keyed by them."""
    start = 0
    for shard, rows in zip(mine, rows_of(len(batch.samples), len(mine)), strict=True):
        part = slice(start, start + rows)
        start += rows
        with random.batch_of(batch.epoch, batch.samples[part]):
            yield shard, rows, tuple(array[part] for array in arrays)


def _compare_conditions(comm: "Communicator") -> None:
    apart = disagreement(comm, conditions())
    if apart is not None:
        raise PeerError(
            f"reproducible mode needs equal machines: {apart.name} is {apart.first} on rank 0, "
            f"{apart.other} on rank {apart.rank}"
        )
