"""Indices to batches: gather or collate, then transform, with draws keyed by sample."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from ..core import checks, random
from .collate import default_collate, map_arrays
from .dataset import ArrayDataset, can_take


@dataclass(frozen=True)
class Fetcher:
    """Makes the batches of a loader, in whichever thread or process it is called.

    Attributes:
        dataset: map-style or iterable.
        collate_fn: samples to batch; None stacks them (in one gather, where the data set has `take`).
        transform: applied to the inputs: the batch itself, or the first part of it.
        batch_transform: applied to the whole batch.
    """

    dataset: Any
    collate_fn: Callable[[list[Any]], Any] | None = None
    transform: Callable[[Any], Any] | None = None
    batch_transform: Callable[..., Any] | None = None

    @property
    def trivial(self) -> bool:
        """Whether a batch is a gather in memory and nothing else: not worth a thread."""
        plain = not (self.collate_fn or self.transform or self.batch_transform)
        return plain and isinstance(self.dataset, ArrayDataset) and self.dataset.in_memory

    def __call__(self, epoch: int, samples: np.ndarray) -> Any:
        """Return the batch of `samples`; without samples, a batch of 0 rows with the right shapes."""
        if not len(samples):
            return map_arrays(lambda part: part[:0], self(epoch, np.zeros(1, np.int64)))
        if self.collate_fn is None and can_take(self.dataset):
            return self._transformed(epoch, samples, self.dataset.take(samples))
        with random.batch_of(epoch, samples):
            rows = [self.dataset[int(index)] for index in samples]
        return self._collated(epoch, samples, rows)

    def stream(self, epoch: int, batch_size: int, skip: int, drop_last: bool) -> Iterator[tuple[np.ndarray, Any]]:
        """Read an iterable data set: yield (positions in it, batch), leaving out the first `skip` batches."""
        rows = iter(self.dataset)
        start = sum(1 for _ in islice(rows, skip * batch_size))
        while chunk := list(islice(rows, batch_size)):
            if drop_last and len(chunk) < batch_size:
                return
            samples = np.arange(start, start + len(chunk))
            yield samples, self._collated(epoch, samples, chunk)
            start += len(chunk)

    def _collated(self, epoch: int, samples: np.ndarray, rows: list[Any]) -> Any:
        batch = (self.collate_fn or default_collate)(rows)
        # Lists of arrays are what PyTorch's collate functions return; one of text is a part itself.
        if isinstance(batch, list) and any(hasattr(part, "ndim") for part in batch):
            batch = tuple(batch)
        return self._transformed(epoch, samples, batch)

    def _transformed(self, epoch: int, samples: np.ndarray, batch: Any) -> Any:
        if self.transform is None and self.batch_transform is None:
            return batch
        with random.batch_of(epoch, samples):
            if self.transform is not None:
                batch = self._with_inputs(batch)
            if self.batch_transform is not None:
                batch = self.batch_transform(*batch) if isinstance(batch, tuple) else self.batch_transform(batch)
                _check_returned("batch_transform", self.batch_transform, batch)
        return batch

    def _with_inputs(self, batch: Any) -> Any:
        if isinstance(batch, dict):
            raise checks.bad_type(
                "transform", self.transform, "needs batches of arrays; give `batch_transform` for dicts"
            )
        assert self.transform is not None
        inputs = self.transform(batch[0] if isinstance(batch, tuple) else batch)
        _check_returned("transform", self.transform, inputs)
        return (inputs, *batch[1:]) if isinstance(batch, tuple) else inputs


def _check_returned(name: str, function: Any, result: Any) -> None:
    if result is None:
        raise checks.bad_type(name, function, "must return what it makes, not None")
