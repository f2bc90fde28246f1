"""The plan of an epoch, the same on every rank: one order, cut into global batches, then into ranks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import checks, random
from ..core.shards import shards_of

Order = Callable[[int, int], np.ndarray]
"""Returns for (epoch, seed) in which order the epoch visits all samples, the same on every rank."""


def epoch_order(length: int, epoch: int, shuffle: bool, seed: int, order: Order | None = None) -> np.ndarray:
    """Return the order in which an epoch visits its samples: int64 of shape (length,)."""
    if not shuffle:
        return np.arange(length)
    return random.permutation("shuffle", epoch, length, seed=seed) if order is None else order(epoch, seed)


def check_rank(rank: int, size: int) -> tuple[int, int]:
    """Return (rank, size), or raise if they are no rank and number of ranks."""
    size = checks.integer("size", size, 1)
    rank = checks.integer("rank", rank, 0)
    if rank >= size:
        raise checks.bad_value("rank", rank, f"must be < `size` (={size})")
    return rank, size


def check_enough(length: int, parts: int, name: str = "ranks") -> None:
    """Raise if there are fewer samples than ranks or other parts."""
    if length < parts:
        raise checks.bad_value("dataset", f"{length} samples", f"must hold a sample for each of {parts} {name}")


def check_shares(shares: Sequence[float], size: int) -> tuple[float, ...]:
    """Return the shares of ranks in a global batch, or raise if they are not one a rank."""
    checked = tuple(checks.real(f"shares[{rank}]", share, above=0.0) for rank, share in enumerate(shares))
    if checked and len(checked) != size:
        raise checks.bad_value("shares", list(checked), f"must be one for each of {size} ranks")
    return checked


@dataclass(frozen=True)
class Plan:
    """Which samples each rank works on at each step of each epoch.

    Attributes:
        length: samples in the data set.
        batch_size: rows of a global batch, over all ranks.
        rank: this rank.
        size: number of ranks.
        shuffle: whether each epoch has its own order.
        seed: what the orders are keyed by.
        drop_last: whether a short last batch is left out.
        shards: into how many a global batch is cut, of which each rank gets neighbours; 0: one a rank.
        shares: how much of each global batch each rank gets, in proportion; (): all the same.
        random_order: of shuffled epochs; None: any order of all samples.
    """

    length: int
    batch_size: int
    rank: int = 0
    size: int = 1
    shuffle: bool = True
    seed: int = 0
    drop_last: bool = False
    shards: int = 0
    shares: tuple[float, ...] = ()
    random_order: Order | None = None

    @property
    def steps(self) -> int:
        """The number of steps of an epoch, the same on every rank."""
        return self.length // self.batch_size if self.drop_last else -(-self.length // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Return the order of all samples in `epoch`."""
        return epoch_order(self.length, epoch, self.shuffle, self.seed, self.random_order)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return this rank's samples, one array a step; some may be empty in the last step."""
        order = self.order(epoch)
        starts = range(0, self.steps * self.batch_size, self.batch_size)
        return [self._share(order[start : start + self.batch_size]) for start in starts]

    def _share(self, batch: np.ndarray) -> np.ndarray:
        if self.shares:
            bounds = np.rint(np.cumsum((0.0, *self.shares)) / sum(self.shares) * len(batch)).astype(np.int64)
            return batch[bounds[self.rank] : bounds[self.rank + 1]]
        if not self.shards:
            return batch[self.rank :: self.size]
        mine = shards_of(self.shards, self.rank, self.size)
        return np.concatenate([batch[shard :: self.shards] for shard in mine])


class Position:
    """Where a run of epochs stands: the epoch, and how many of its items were handed out."""

    def __init__(self) -> None:
        """Stand before epoch 0."""
        self.epoch = 0
        self.done = 0
        self._begun = False

    def begin(self) -> tuple[int, int]:
        """Begin the next epoch, or the rest of one that was loaded: return (epoch, items to leave out)."""
        if self._begun:
            self.epoch, self.done = self.epoch + 1, 0
        self._begun = True
        return self.epoch, self.done

    def advance(self, epoch: int, items: int = 1) -> None:
        """Count `items` as handed out, unless another epoch has begun in the meantime."""
        if epoch == self.epoch:
            self.done += items

    def finish(self, epoch: int) -> None:
        """Stand before the epoch that follows `epoch`, unless another has begun in the meantime."""
        if epoch == self.epoch:
            self.epoch, self.done, self._begun = epoch + 1, 0, False

    def move(self, epoch: int, done: int = 0) -> None:
        """Stand in `epoch` with `done` items handed out."""
        self.epoch, self.done, self._begun = epoch, done, False

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the next; a loaded position inside that epoch is kept."""
        epoch = checks.integer("epoch", epoch, 0)
        if self._begun or epoch != self.epoch:
            self.move(epoch)


def read_state(state: Any, keys: tuple[str, ...]) -> tuple[int, ...]:
    """Return the integers >= 0 that `state` holds under `keys`, or raise if it holds anything else."""
    if not isinstance(state, dict):
        raise checks.bad_type("state", state, "must be a dict from state_dict()")
    if set(state) != set(keys):
        raise checks.bad_value("state", sorted(map(str, state)), f"must hold exactly {', '.join(keys)}")
    return tuple(checks.integer(f"state[{name!r}]", state[name], 0) for name in keys)
