"""What data sets in shards have in common: where a sample lies, and few shards in use at a time."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from ...core import checks
from ...core.errors import MissingDataError
from ...core.files import StrPath
from ..dataset import Ordered
from .cache import NodeCache
from .index import Shard
from .order import ShardOrder

Opened = TypeVar("Opened")

MOST_OPEN_BYTES = 1 << 30
MOST_OPEN = 256
"""Shards in use at a time: each may take a descriptor, and pages of its own."""


class ShardedDataset(ABC, Ordered, Generic[Opened]):
    """Samples in shards, by number; shards are opened when needed, and closed when others are used.

    Attributes:
        shards: in the order of their samples.
        order: of shuffled epochs; samplers and the trainer take it from here.
        opened: how many shards this process has opened so far, those counted again that were opened again.

    Args:
        shards: at least one.
        streams, window: see `ShardOrder`.
        cache: copies of shards on this node; None: they are read where they lie.
        max_open_bytes: of memory that shards in use take; one is in use whatever it takes. Mapped arrays take none.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        streams: int,
        window: int,
        cache: NodeCache | None,
        max_open_bytes: int,
    ):
        if not shards:
            raise checks.bad_value("shards", list(shards), "must be at least one")
        self.shards = list(shards)
        self.order = ShardOrder(tuple(shard.samples for shard in shards), streams, window)
        self.opened = 0
        self._ends = np.cumsum(self.order.sizes)
        self._cache = cache
        self._max_open_bytes = checks.integer("max_open_bytes", max_open_bytes, 1)
        self._in_use: OrderedDict[int, tuple[Opened, int]] = OrderedDict()
        # A loader's thread reads ahead while another loader's is used.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of samples."""
        return int(self._ends[-1])

    def locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return for each sample its shard, and its row there."""
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"samples are numbered from 0 to {len(self) - 1}")
        shards = np.searchsorted(self._ends, indices, side="right")
        starts = self._ends - self.order.sizes
        return shards, indices - starts[shards]

    def use(self, number: int) -> Opened:
        """Return a shard, opened."""
        with self._lock:
            if number in self._in_use:
                self._in_use.move_to_end(number)
                return self._in_use[number][0]
            opened, nbytes = self._opened_at(number)
            self.opened += 1
            self._in_use[number] = opened, nbytes
            while len(self._in_use) > 1 and (
                len(self._in_use) > MOST_OPEN or sum(taken for _, taken in self._in_use.values()) > self._max_open_bytes
            ):
                self._in_use.popitem(last=False)
            return opened

    def _opened_at(self, number: int) -> tuple[Opened, int]:
        shard = self.shards[number]
        if self._cache is not None:
            sums = shard.checksums or ("",) * len(shard.files)
            copies = [self._cache.local(path, told) for path, told in zip(shard.files, sums, strict=True)]
            try:
                return self._open(shard, copies)
            except MissingDataError:
                # Another rank has made room in the meantime.
                pass
        return self._open(shard, list(shard.files))

    @abstractmethod
    def _open(self, shard: Shard, files: list[Path]) -> tuple[Opened, int]:
        """Open a shard, and return it with the bytes of memory that it takes.

        Args:
            shard: names the files for messages.
            files: to be read.
        """

    def __getstate__(self) -> dict[str, Any]:
        """Leave open shards out: a worker process opens its own."""
        return {**self.__dict__, "_in_use": OrderedDict(), "_lock": None, "opened": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what `__getstate__` left."""
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Return a line that tells how many shards and samples there are."""
        return f"{type(self).__name__}({len(self.shards)} shards, {len(self)} samples)"


def make_cache(directory: StrPath | None, max_bytes: int) -> NodeCache | None:
    """Return the cache in a directory, if there is to be one."""
    return None if directory is None else NodeCache(directory, max_bytes)
