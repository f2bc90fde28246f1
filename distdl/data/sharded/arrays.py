"""Shards that are .npz or .npy files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...core.errors import FileFormatError
from ...core.files import StrPath, bad_file
from ..dataset import ArrayDataset, Takes
from ..npy import map_npy, npy_rows, npz_rows, read_npz
from .dataset import MOST_OPEN_BYTES, ShardedDataset, make_cache
from .index import Shard, find_shards

CACHE_BYTES = 64 << 30


class ShardedArrays(ShardedDataset[ArrayDataset], Takes):
    """Samples that are rows of arrays in many files: mapped where they lie uncompressed, else read when needed."""

    def __init__(
        self,
        source: StrPath | Sequence[StrPath],
        names: Sequence[str] | None = None,
        *,
        streams: int = 8,
        window: int = 2,
        cache_dir: StrPath | None = None,
        cache_bytes: int = CACHE_BYTES,
        max_open_bytes: int = MOST_OPEN_BYTES,
    ) -> None:
        """Open shards, whose samples come in the order of the shards.

        Args:
            source: a directory that `ShardWriter` has written; or one of .npz files, or of .npy files with an array
                each, in the order of their names; or such files.
            names: which arrays of .npz files make a sample; by default all, in the order of the first file.
            streams: a shuffled epoch reads so many parts side by side; a multiple, or a divisor, of the number of
                ranks lets each rank read shards of its own. The order of samples depends on it, and on nothing else
                but the seed: not on the number of ranks.
            window: shards over which each is shuffled at a time.
            cache_dir: a directory on each node's own disk, for copies of shards in use.
            cache_bytes: that these take at most.
            max_open_bytes: of memory for compressed shards in use.

        Raises:
            MissingDataError: there is no such directory or file.
            FileFormatError: a damaged file.
        """
        self._names = None if names is None else tuple(names)
        self._kinds: list[tuple[np.dtype, tuple[int, ...]]] = []
        shards = find_shards(source, _suffix(source), self._count)
        super().__init__(shards, streams, window, make_cache(cache_dir, cache_bytes), max_open_bytes)
        self._kinds = [(array.dtype, array.shape[1:]) for array in self.use(0).arrays]

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Return one sample: a row of each array."""
        return tuple(array[0] for array in self.take(np.array([index])))

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return a batch: the rows `indices` of each array, in this machine's byte order."""
        shards, rows = self.locate(np.asarray(indices))
        out = tuple(np.empty((len(rows), *shape), dtype.newbyteorder("=")) for dtype, shape in self._kinds)
        for number in np.unique(shards).tolist():
            here = np.flatnonzero(shards == number)
            for whole, array in zip(out, self.use(number).arrays, strict=True):
                whole[here] = array[rows[here]]
        return out

    def _count(self, path: Path) -> int:
        return npz_rows(path, self._names) if path.suffix == ".npz" else npy_rows(path)

    def _open(self, shard: Shard, files: list[Path]) -> tuple[ArrayDataset, int]:
        try:
            if shard.files[0].suffix == ".npz":
                found = ArrayDataset(*read_npz(files[0], self._names).values())
            else:
                found = ArrayDataset(*map(map_npy, files))
        except FileFormatError:
            raise
        except ValueError as error:
            raise bad_file(shard.files[0], str(error)) from error
        if len(found) != shard.samples:
            raise bad_file(shard.files[0], f"holds {len(found)} samples, the index says {shard.samples}")
        kinds = [(array.dtype, array.shape[1:]) for array in found.arrays]
        if self._kinds and kinds != self._kinds:
            rule = f"must hold arrays of {_words(self._kinds)} a sample, as the first shard does; has {_words(kinds)}"
            raise bad_file(shard.files[0], rule)
        return found, sum(array.nbytes for array in found.arrays if not isinstance(array, np.memmap))


def _suffix(source: StrPath | Sequence[StrPath]) -> str:
    is_directory = isinstance(source, (str, Path))
    return ".npz" if is_directory and any(Path(source).glob("*.npz")) else ".npy"  # type: ignore[arg-type]


def _words(kinds: Sequence[tuple[np.dtype, tuple[int, ...]]]) -> str:
    return ", ".join(f"{dtype} {shape}" for dtype, shape in kinds)
