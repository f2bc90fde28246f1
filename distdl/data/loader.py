"""DataLoader: epochs of batches, read ahead, at a position that can be saved."""

from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import islice
from typing import Any

import numpy as np

from ..core import checks, random, spans
from .dataset import Dataset, IterableDataset
from .fetch import Fetcher
from .plan import Position, read_state
from .prefetch import Prefetcher
from .sampler import DistributedSampler, EpochSampler
from .workers import WorkerPool


class DataLoader:
    """Iterates over a data set in batches; each `iter()` is the next epoch.

    While a batch is in the consumer's hands, `distdl.core.random.current_batch()` tells its samples, so that draws
    (dropout, say) are keyed by sample and epoch.

    Its position counts batches that were handed out, not those read ahead: `state_dict()` taken inside an epoch and
    loaded into an equal loader gives exactly the samples not yet seen. That needs a sampler of distdl, or one whose
    order is the same each time.
    """

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
        seed: int | None = None,
    ) -> None:
        """Plan to read `dataset`.

        Args:
            dataset: with `len()` and `[i]` (PyTorch's too), or, to be read front to back, with `iter()` only.
            batch_size: rows of this rank's batches.
            shuffle: whether each epoch has an order of its own; only without a sampler.
            sampler: which samples this rank reads, in which order. With a `DistributedSampler` all ranks take the same
                number of steps; a rank whose samples are used up gets a batch of 0 rows.
            batch_sampler: the indices of each batch, such as a `GlobalBatchSampler`; without `batch_size`.
            num_workers: processes that make batches (0: none). They start at the first epoch, from a pickle of the
                data set, and stay until the loader is closed or dropped.
            collate_fn: list of samples -> batch; by default `default_collate`.
            drop_last: leave out a short last batch (on all ranks, where it is short on one).
            prefetch: batches to read ahead, in a thread, or in each worker; 0 means none. Plain arrays in memory are
                gathered at once, as a thread would cost more.
            transform: applied to the inputs, the batch's first part.
            batch_transform: called as `batch_transform(*batch)`, after `transform`; returns the batch.
            seed: of the shuffling, by default the one of `manual_seed`; only without a sampler, which has its own.

        Raises:
            ValueError: a number out of range, an empty data set, or arguments that exclude each other.
            TypeError: `dataset` cannot be read.
        """
        self.dataset = dataset
        self.batch_size = checks.integer("batch_size", batch_size, 1)
        self.num_workers = checks.integer("num_workers", num_workers, 0)
        self.prefetch = checks.integer("prefetch", prefetch, 0)
        self.drop_last = bool(drop_last)
        self.sampler: Iterable[Any] | None = sampler
        self.batch_sampler = batch_sampler
        self._check_exclusive(shuffle)
        self._check_length(sampler if batch_sampler is None else batch_sampler)
        self._streams = not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"))
        if self._streams:
            self._check_stream(shuffle)
        elif sampler is None and batch_sampler is None:
            seed = random.get_seed() if seed is None else seed
            self.sampler = DistributedSampler(dataset, shuffle=shuffle, seed=seed)  # type: ignore[arg-type]
        self._fetch = Fetcher(dataset, collate_fn, transform, batch_transform)
        self._pool: WorkerPool | None = None
        # A sampler of ours and its loader share one position, counted in the sampler's items.
        order = self.sampler if batch_sampler is None else batch_sampler
        self._position = order.position if isinstance(order, EpochSampler) else Position()
        self._shards = getattr(batch_sampler, "shards", 0)
        self._items_per_batch = 1 if batch_sampler is not None else self.batch_size

    def __iter__(self) -> Iterator[Any]:
        """Begin the next epoch (or the rest of a loaded one): yield its batches."""
        epoch, done = self._position.begin()
        return self._deliver(epoch, done // self._items_per_batch)

    def __len__(self) -> int:
        """Return the number of batches of an epoch; iterable data has none."""
        if self._streams:
            raise checks.bad_type("dataset", self.dataset, "has no length, so its loader has none")
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        if isinstance(self.sampler, DistributedSampler):
            rows = self.sampler.shortest if self.drop_last else self.sampler.longest
        else:
            rows = len(self.sampler)  # type: ignore[arg-type]
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the next one; a loaded position inside it is kept."""
        self._position.set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        """Return the epoch in progress and how many of its batches were handed out."""
        return {"epoch": self._position.epoch, "batches": self._position.done // self._items_per_batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where `state` was taken: the next `iter()` yields the batches that were not handed out."""
        epoch, batches = read_state(state, ("epoch", "batches"))
        self._position.move(epoch, batches * self._items_per_batch)

    def close(self) -> None:
        """End the worker processes; the next epoch starts others."""
        if self._pool is not None:
            self._pool.close()

    def _deliver(self, epoch: int, skip: int) -> Iterator[Any]:
        source = self._source(epoch, skip)
        named = None
        try:
            for samples, batch in spans.waits(source, "next batch"):
                named = random.Batch(epoch, samples, self._shards)
                self._position.advance(epoch, self._items_per_batch)
                random.set_batch(named)
                yield batch
            self._position.finish(epoch)
        finally:
            if random.current_batch() is named:
                random.set_batch(None)
            source.close()

    def _source(self, epoch: int, skip: int) -> Any:
        """Return an iterator, with `close()`, over the (samples, batch) of an epoch from batch `skip` on."""
        if self.num_workers:
            if self._pool is None or self._pool.closed:
                self._pool = WorkerPool(self._fetch, self.num_workers)
            return self._pool.run(epoch, islice(self._indices(epoch), skip, None), max(self.prefetch, 1))
        if self._streams:
            pairs = self._fetch.stream(epoch, self.batch_size, skip, self.drop_last)
        else:
            pairs = ((samples, self._fetch(epoch, samples)) for samples in islice(self._indices(epoch), skip, None))
        return Prefetcher(pairs, self.prefetch) if self.prefetch and not self._fetch.trivial else pairs

    def _indices(self, epoch: int) -> Iterator[np.ndarray]:
        """Yield the indices of each batch of an epoch."""
        if self.batch_sampler is not None:
            batches = self.batch_sampler
            for indices in batches.items(epoch) if isinstance(batches, EpochSampler) else batches:
                yield np.asarray(indices, np.int64)
        elif isinstance(self.sampler, EpochSampler):
            samples = np.asarray(self.sampler.items(epoch), np.int64)
            for step in range(len(self)):
                yield samples[step * self.batch_size : (step + 1) * self.batch_size]
        else:
            rest = iter(self.sampler or ())
            while chunk := list(islice(rest, self.batch_size)):
                if len(chunk) == self.batch_size or not self.drop_last:
                    yield np.asarray(chunk, np.int64)

    def _check_exclusive(self, shuffle: bool) -> None:
        if self.batch_sampler is not None and (
            self.batch_size != 1 or shuffle or self.sampler is not None or self.drop_last
        ):
            rule = "excludes `batch_size`, `shuffle`, `sampler` and `drop_last`: the batch sampler decides them"
            raise checks.bad_value("batch_sampler", self.batch_sampler, rule)
        if self.sampler is not None and shuffle:
            raise checks.bad_value("shuffle", shuffle, "must be False with a `sampler`: the sampler decides the order")

    def _check_length(self, order: Any) -> None:
        length = len(self.dataset) if isinstance(self.dataset, Sized) else None
        if isinstance(order, EpochSampler) and length not in (None, order.length):
            raise checks.bad_value("sampler", f"of {order.length} samples", f"must be of the {length} of `dataset`")

    def _check_stream(self, shuffle: bool) -> None:
        if not hasattr(self.dataset, "__iter__"):
            raise checks.bad_type("dataset", self.dataset, "must have `len()` and `[i]`, or `iter()`")
        if shuffle or self.sampler is not None or self.batch_sampler is not None:
            raise checks.bad_value("dataset", self.dataset, "has no length: it excludes `shuffle` and samplers")
        if self.num_workers:
            raise checks.bad_value("num_workers", self.num_workers, "must be 0 for data that is read front to back")
