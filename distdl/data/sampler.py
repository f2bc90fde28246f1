"""Samplers: which samples a rank reads, in which order; pure functions of (seed, epoch, rank, size)."""

from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np

from ..core import checks
from ..core.shards import check_shards
from .dataset import order_of
from .plan import Order, Plan, Position, check_enough, check_rank, check_shares, epoch_order, read_state


class EpochSampler:
    """A sampler whose items depend on the epoch only; each `iter()` begins the next epoch."""

    def __init__(self, length: int, rank: int, size: int, shuffle: bool, seed: int, drop_last: bool) -> None:
        """Check and keep what every sampler has."""
        self.length = length
        self.rank, self.size = check_rank(rank, size)
        check_enough(self.length, self.size)
        self.shuffle = bool(shuffle)
        self.seed = checks.integer("seed", seed, 0)
        self.drop_last = bool(drop_last)
        self.order: Order | None = None
        self.position = Position()

    def items(self, epoch: int) -> Any:
        """Return the sequence of what this rank reads in `epoch`, from the start."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        """Begin the next epoch (or the rest of a loaded one)."""
        epoch, done = self.position.begin()
        return self._walk(epoch, done)

    def _walk(self, epoch: int, done: int) -> Iterator[Any]:
        for item in self.items(epoch)[done:]:
            self.position.advance(epoch)
            yield item
        self.position.finish(epoch)

    @property
    def epoch(self) -> int:
        """The epoch in progress, or the next one."""
        return self.position.epoch

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the next one; a loaded position inside it is kept."""
        self.position.set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        """Return the seed, the epoch in progress, and how many of its items were handed out."""
        return {"seed": self.seed, "epoch": self.position.epoch, "position": self.position.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where `state` was taken: the next `iter()` gives what was not handed out."""
        self.seed, epoch, done = read_state(state, ("seed", "epoch", "position"))
        self.position.move(epoch, done)


class DistributedSampler(EpochSampler):
    """Sample indices of one rank: every `size`-th of a common order that changes with each epoch."""

    def __init__(
        self,
        dataset: Sized,
        rank: int = 0,
        size: int = 1,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        """Share the samples of `dataset` out among `size` ranks.

        Args:
            dataset: anything with a length; one in shards gives shuffled epochs its order, see `ShardOrder`.
            rank: this rank, in [0, size).
            size: number of ranks.
            shuffle: whether each epoch has an order of its own; else it is the order of the data set.
            seed: what the orders are keyed by; the same on all ranks.
            drop_last: leave out the last `len(dataset) % size` samples of each order, so that all ranks read
                equally many. By default no sample is left out or read twice, and some ranks read one more.

        Raises:
            ValueError: a rank out of range, or fewer samples than ranks.
        """
        super().__init__(len(dataset), rank, size, shuffle, seed, drop_last)
        self.order = order_of(dataset)

    @property
    def shortest(self) -> int:
        """The number of samples of the rank that reads fewest."""
        return self.length // self.size

    @property
    def longest(self) -> int:
        """The number of samples of the rank that reads most."""
        return self.shortest if self.drop_last else -(-self.length // self.size)

    def __len__(self) -> int:
        """Return the number of samples that this rank reads in an epoch."""
        return self.shortest + (not self.drop_last and self.rank < self.length % self.size)

    def items(self, epoch: int) -> np.ndarray:
        """Return the indices that this rank reads in `epoch`: int64 of shape (len(self),)."""
        return epoch_order(self.length, epoch, self.shuffle, self.seed, self.order)[self.rank :: self.size][: len(self)]


class GlobalBatchSampler(EpochSampler):
    """One rank's rows of each global batch: as many steps on every rank, some rows fewer, or none, in the last."""

    def __init__(
        self,
        length: int,
        batch_size: int,
        rank: int = 0,
        size: int = 1,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        shards: int = 0,
        shares: Sequence[float] = (),
        order: Order | None = None,
    ) -> None:
        """Cut each epoch into batches of `batch_size` rows over all ranks, and take those of `rank`.

        Args:
            length: samples in the data set.
            batch_size: rows of a global batch, over all ranks.
            rank: this rank, in [0, size).
            size: number of ranks.
            shuffle: whether each epoch has an order of its own.
            seed: what the orders are keyed by; the same on all ranks.
            drop_last: leave out a short last batch.
            shards: cut each global batch into so many, whatever the number of ranks, and give each rank neighbours:
                what reproducible mode needs. A power of two; 0: one a rank.
            shares: for nodes of unequal speed, how much of each global batch each rank gets, in proportion: (2, 1)
                gives rank 0 two thirds. Gradients stay exact, as each rank counts by its rows. By default all the same.
            order: of shuffled epochs: what a data set in shards has as `order`; by default any order of all samples.

        Raises:
            ValueError: a rank out of range, a batch size below 1, fewer samples or shards than ranks, or fewer
                samples or rows than shards.
        """
        super().__init__(checks.integer("length", length, 0), rank, size, shuffle, seed, drop_last)
        self.batch_size = checks.integer("batch_size", batch_size, 1)
        self.shards = check_shards(shards, size) if shards else 0
        check_enough(self.length, self.shards, "shards")
        if self.batch_size < self.shards:
            raise checks.bad_value("batch_size", batch_size, f"must be >= `shards` (={shards})")
        self.shares = check_shares(shares, size)
        if self.shares and self.shards:
            raise checks.bad_value("shares", list(self.shares), "cannot be given with `shards`, which are all alike")
        self.order = order

    @property
    def plan(self) -> Plan:
        """The plan that the batches are read from."""
        return Plan(
            self.length,
            self.batch_size,
            self.rank,
            self.size,
            self.shuffle,
            self.seed,
            self.drop_last,
            self.shards,
            self.shares,
            self.order,
        )

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        return self.plan.steps

    def items(self, epoch: int) -> list[np.ndarray]:
        """Return the indices of each step of `epoch`, int64 arrays that may be empty."""
        return self.plan.batches(epoch)
