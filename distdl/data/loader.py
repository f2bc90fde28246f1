"""DataLoader: epochs of batches, read ahead, at a position that can be saved."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..core import checks, random
from .dataset import Dataset, IterableDataset
from .fetch import Fetcher
from .plan import Position, read_state
from .sampler import DistributedSampler, EpochSampler


class DataLoader:
    """Iterate over a data set in batches; each `iter()` is the next epoch."""

    def __init__(
        self,
        dataset: Dataset | IterableDataset,
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        drop_last: bool = False,
        prefetch: int = 2,
        transform: Callable[[Any], Any] | None = None,
        batch_transform: Callable[..., Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.dataset = dataset
        self.batch_size = checks.integer("batch_size", batch_size, 1)
        self.drop_last = bool(drop_last)
        self.batch_sampler = batch_sampler
        self.sampler = sampler if sampler or batch_sampler else DistributedSampler(dataset, shuffle=shuffle, seed=seed)
        self._fetch = Fetcher(dataset, collate_fn, transform, batch_transform)
        items = self.batch_sampler or self.sampler
        self._position = items.position if isinstance(items, EpochSampler) else Position()
        self._unit = 1 if batch_sampler else self.batch_size

    def __iter__(self) -> Iterator[Any]:
        epoch, done = self._position.begin()
        return self._deliver(epoch, done // self._unit)

    def _batches(self, epoch: int) -> list[np.ndarray]:
        if self.batch_sampler is not None:
            return self.batch_sampler.items(epoch)
        samples = self.sampler.items(epoch)
        return [samples[k * self.batch_size : (k + 1) * self.batch_size] for k in range(len(self))]

    def __len__(self) -> int:
        if self.batch_sampler is not None:
            return len(self.batch_sampler)
        if self.drop_last:
            return self.sampler.shortest // self.batch_size
        return -(-self.sampler.longest // self.batch_size)

    def _deliver(self, epoch: int, skip: int) -> Iterator[Any]:
        try:
            for samples in self._batches(epoch)[skip:]:
                batch = self._fetch(epoch, samples)
                self._position.advance(epoch, self._unit)
                random.set_batch(random.Batch(epoch, samples))
                yield batch
            self._position.finish(epoch)
        finally:
            random.set_batch(None)

    def state_dict(self) -> dict[str, int]:
        """Return the epoch in progress and how many of its batches were handed out."""
        return {"epoch": self._position.epoch, "batches": self._position.done // self._unit}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where `state` was taken."""
        epoch, batches = read_state(state, ("epoch", "batches"))
        self._position.move(epoch, batches * self._unit)
