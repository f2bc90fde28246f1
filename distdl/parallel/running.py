"""Buffers in reproducible mode: every shard starts from the same, and the shards' changes are averaged."""

from typing import TYPE_CHECKING

import numpy as np

from .shard_sums import ShardSums

if TYPE_CHECKING:
    from ..comm import Communicator


class RunningBuffers:
    """Buffers such as running statistics; each shard that has rows counts alike, and counters are rounded.

    Args:
        buffers: arrays that forward passes change in place.
        shards: how many there are.
        comm: the ranks that share them.
    """

    def __init__(self, buffers: list[np.ndarray], shards: int, comm: "Communicator"):
        self.buffers = buffers
        self._sums = ShardSums(shards, comm)
        # Behind the values: how many shards had rows.
        self._flat = np.zeros(sum(buffer.size for buffer in buffers) + 1)
        self._start: list[np.ndarray] = []

    def begin(self) -> None:
        """Keep what every shard starts from."""
        self._sums.forget()
        self._start = [buffer.copy() for buffer in self.buffers]

    def finish_shard(self, shard: int, had_rows: bool) -> None:
        """Take what a shard has left, and go back to the start."""
        if not self.buffers:
            return
        pairs = list(zip(self.buffers, self._start, strict=True))
        # Changes, not values: what no shard changes keeps its bits.
        changes = [np.subtract(buffer, start, dtype=np.float64).reshape(-1) for buffer, start in pairs]
        self._flat[:-1] = np.concatenate(changes) if had_rows else 0.0
        self._flat[-1] = had_rows
        self._sums.add(shard, self._flat)
        for buffer, start in pairs:
            buffer[...] = start

    def reduce(self) -> None:
        """Change the buffers by the mean change over all shards."""
        if not self.buffers:
            return
        self._sums.reduce(self._flat, 1.0)
        means = self._flat[:-1] / max(1.0, float(self._flat[-1]))
        ends = np.cumsum([buffer.size for buffer in self.buffers])[:-1]
        for buffer, mean in zip(self.buffers, np.split(means, ends), strict=True):
            change = mean.reshape(buffer.shape)
            buffer += (change if buffer.dtype.kind == "f" else np.rint(change)).astype(buffer.dtype)
