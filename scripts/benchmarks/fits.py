"""Whole fits of the trainer, with checkpoints and without."""

import tempfile
import time
from typing import Any

import numpy as np

from distdl import nn, train

from . import models


class Repeated:
    """A data set of so many rows that are a batch again and again."""

    def __init__(self, arrays: tuple[np.ndarray, ...], rows: int):
        self.arrays, self.rows = arrays, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return tuple(array[index % len(array)] for array in self.arrays)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(array[indices % len(array)] for array in self.arrays)


def fit(side: Any, name: str, steps: int, every: int | None) -> float:
    """Return the seconds of a fit of so many steps, which takes a checkpoint each `every` (None: none)."""
    trainer = train.Trainer(side.model, side.optimizer, nn.functional.cross_entropy, metrics=(), progress=False)
    rows = models.REFERENCES[name].batch * side.size
    samples = Repeated(models.batches(name, 1)[0], steps * rows)
    with tempfile.TemporaryDirectory() as directory:
        place = side.comm.broadcast_object(directory)
        options = {} if every is None else {"checkpoints": place, "checkpoint_every": every}
        side.comm.barrier()
        start = time.perf_counter()
        trainer.fit(samples, 1, rows, **options)
        return time.perf_counter() - start
