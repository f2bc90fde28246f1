"""The order in which an epoch visits samples that lie in shards: random, but near to where they lie."""

from dataclasses import dataclass

import numpy as np

from ...core import checks, random


@dataclass(frozen=True)
class ShardOrder:
    """A random order for each epoch, the same for any number of ranks.

    The epoch's shards, in random order, are laid end to end and cut into `streams` equal parts. Within its part a
    stream is shuffled over `window` shards at a time. The epoch's order takes a sample of each stream in turn, so that
    ranks, which take every `size`-th sample, read different shards wherever `size` divides `streams` (or the other way
    round), and have about `window * streams / size` of them in use at a time.

    Attributes:
        sizes: samples of each shard.
        streams: parts of an epoch that are read side by side.
        window: shards over which a stream is shuffled at a time: the more, the better mixed; the fewer, the less
            memory where shards are not mapped.
    """

    sizes: tuple[int, ...]
    streams: int = 8
    window: int = 2

    def __post_init__(self) -> None:
        checks.integer("streams", self.streams, 1)
        checks.integer("window", self.window, 1)

    def __call__(self, epoch: int, seed: int) -> np.ndarray:
        """Return the order of an epoch: int64 of shape (samples,)."""
        sizes = np.array(self.sizes, np.int64)
        total = int(sizes.sum())
        shards = random.permutation("shards", epoch, len(sizes), seed=seed)
        laid, groups = self._lay(sizes, shards, total)
        # Within its group each sample is placed by its number in one permutation of all.
        numbers = random.permutation("shuffle", epoch, total, seed=seed)
        laid = laid[np.lexsort((numbers, groups))]
        return self._interleave(laid, total)

    def _bounds(self, total: int) -> np.ndarray:
        """Return where each stream begins, and the end of the last."""
        return np.arange(self.streams + 1, dtype=np.int64) * total // self.streams

    def _lay(self, sizes: np.ndarray, shards: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
        """Return samples as they are laid end to end, and for each its group: what is shuffled together."""
        starts = np.cumsum(sizes) - sizes
        counts = sizes[shards]
        begins = np.cumsum(counts) - counts
        laid = np.arange(total, dtype=np.int64) + np.repeat(starts[shards] - begins, counts)
        place = np.repeat(np.arange(len(shards), dtype=np.int64), counts)
        streams = np.repeat(np.arange(self.streams, dtype=np.int64), np.diff(self._bounds(total)))
        # Groups begin anew with each stream, whose first shard may be one that the stream before has begun.
        first = place[np.minimum(self._bounds(total)[:-1], total - 1)]
        within = (place - first[streams]) // self.window
        return laid, streams * len(shards) + within

    def _interleave(self, laid: np.ndarray, total: int) -> np.ndarray:
        bounds = self._bounds(total)
        lengths = np.diff(bounds)
        table = np.full((int(lengths.max()), self.streams), -1, np.int64)
        for stream, (start, length) in enumerate(zip(bounds[:-1], lengths, strict=True)):
            table[:length, stream] = laid[start : start + length]
        order = table.reshape(-1)
        return order[order >= 0]
