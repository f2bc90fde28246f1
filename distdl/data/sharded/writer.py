"""Writing shards."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ...core import checks
from ...core.errors import ArgumentError
from ...core.files import StrPath, make_directory, write_durably
from .index import INDEX, Shard, write_index


class ShardWriter:
    """Writes samples as .npz files of equally many, which are mapped when they are read, and at its end the index.

        with ShardWriter("shards", names=("x", "y"), samples_per_shard=10_000) as writer:
            for x, y in batches:
                writer.add(x, y)

    Samples count once the block has ended well; files of before are in no index.
    """

    def __init__(self, directory: StrPath, names: Sequence[str], samples_per_shard: int = 10_000) -> None:
        """Prepare to write into a directory, which is made when needed.

        Args:
            directory: without an index: shards are not added to others.
            names: of the arrays that make a sample.
            samples_per_shard: of each but the last.

        Raises:
            ArgumentError: no names, or one twice; the directory has shards.
        """
        self.directory = Path(directory)
        self.names = tuple(names)
        if not self.names or len(set(self.names)) != len(self.names):
            raise checks.bad_value("names", list(names), "must be different, at least one")
        self.samples_per_shard = checks.integer("samples_per_shard", samples_per_shard, 1)
        if (self.directory / INDEX).exists():
            raise checks.bad_value("directory", str(directory), f"must not have shards yet, has {INDEX}")
        make_directory(self.directory.absolute())
        self._shards: list[Shard] = []
        self._kinds: list[tuple[np.dtype, tuple[int, ...]]] = []
        self._waiting: list[tuple[np.ndarray, ...]] = []
        self._count = 0

    def add(self, *arrays: Any) -> None:
        """Add samples: the rows of one array for each name.

        Raises:
            ArgumentError: another number of arrays, unequal lengths, or rows unlike those before.
        """
        rows = tuple(np.array(array) for array in arrays)
        if len(rows) != len(self.names):
            raise checks.bad_value("arrays", len(rows), f"must be {len(self.names)}: {', '.join(self.names)}")
        if any(part.ndim == 0 or part.dtype.kind not in "biufc" for part in rows):
            raise ArgumentError("`arrays` must hold numbers, with a first axis of samples")
        if len({len(part) for part in rows}) > 1:
            raise checks.bad_value("arrays", [len(part) for part in rows], "must have equal lengths")
        kinds = [(part.dtype, part.shape[1:]) for part in rows]
        self._kinds = self._kinds or kinds
        if kinds != self._kinds:
            raise checks.bad_value("arrays", kinds, f"must be rows as before: {self._kinds}")
        self._waiting.append(rows)
        self._count += len(rows[0])
        while self._count >= self.samples_per_shard:
            self._write(self.samples_per_shard)

    def _write(self, count: int) -> None:
        whole = [np.concatenate(parts) for parts in zip(*self._waiting, strict=True)]
        stream = io.BytesIO()
        named: dict[str, Any] = {name: part[:count] for name, part in zip(self.names, whole, strict=True)}
        np.savez(stream, **named)
        path = self.directory / f"shard-{len(self._shards):06d}.npz"
        write_durably(path, stream.getbuffer())
        self._shards.append(Shard((path,), count))
        self._waiting = [tuple(part[count:] for part in whole)]
        self._count -= count

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write what is left, and the index."""
        if kind is not None:
            return
        if self._count:
            self._write(self._count)
        if not self._shards:
            raise ArgumentError("no samples were added, so there is nothing to write")
        write_index(self.directory, self._shards)
