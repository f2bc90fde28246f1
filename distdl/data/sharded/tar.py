"""Shards that are tar files, as WebDataset lays samples out in them.

Members whose names are equal up to the first dot follow one another, and make a sample; what stands behind the dot
names a field (https://github.com/webdataset/webdataset).
"""

from __future__ import annotations

import os
import tarfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...core import checks
from ...core.errors import DistdlError, MissingDataError
from ...core.files import StrPath, bad_file, check_declared, file_size
from .arrays import CACHE_BYTES
from .dataset import MOST_OPEN_BYTES, ShardedDataset, make_cache
from .decoders import DECODERS, Decoder
from .index import Shard, find_shards

_FIELD_BYTES = 200
"""About what the place of a field takes in memory."""


class _Place(NamedTuple):
    offset: int
    size: int


class _Sample(NamedTuple):
    key: str
    fields: dict[str, _Place]


class TarFile:
    """A tar file whose samples can be read in any order.

    Attributes:
        samples: where their fields lie.
    """

    def __init__(self, path: Path, name: Path) -> None:
        """Find the samples of the file at `path`, which messages call `name`."""
        self.name = name
        self.samples = list_samples(path, name)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, place: _Place) -> bytes:
        """Return the bytes of a field."""
        content = os.pread(self._descriptor, place.size, place.offset)
        if len(content) != place.size:
            raise bad_file(self.name, f"must hold {place.size} bytes there, has {len(content)}", place.offset)
        return content


def list_samples(path: Path, name: Path) -> list[_Sample]:
    """Return the samples of a tar file, by the headers of its members.

    Raises:
        FileFormatError: it is no whole tar file, compressed, or not laid out like this.
    """
    available = file_size(path)
    found: list[_Sample] = []
    keys: set[str] = set()
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                # It would keep them all.
                archive.members = []  # type: ignore[attr-defined]
                if member.isdir() or os.path.basename(member.name).startswith("__"):
                    continue
                _add(found, keys, name, member, available)
    except DistdlError:
        raise
    except (tarfile.TarError, OSError, ValueError, OverflowError, EOFError) as error:
        raise bad_file(name, f"must be a whole tar file, not compressed ({error})") from error
    if not found:
        raise bad_file(name, "must hold a sample")
    return found


def _add(found: list[_Sample], keys: set[str], name: Path, member: tarfile.TarInfo, available: int) -> None:
    what = f"member {member.name[:80]!r}"
    directory, base = os.path.split(member.name)
    stem, dot, field = base.partition(".")
    if not member.isfile() or member.issparse():
        raise bad_file(name, f"{what} must be a plain file", member.offset)
    if not stem or not dot or not field:
        raise bad_file(name, f"{what} must be named KEY.FIELD", member.offset)
    check_declared(name, what, member.size, available - member.offset_data, member.offset)
    key = os.path.join(directory, stem)
    if not found or found[-1].key != key:
        if key in keys:
            raise bad_file(name, f"{what} must follow the other fields of its sample", member.offset)
        keys.add(key)
        found.append(_Sample(key, {}))
    if field.lower() in found[-1].fields:
        raise bad_file(name, f"{what} must be there once", member.offset)
    found[-1].fields[field.lower()] = _Place(member.offset_data, member.size)


class TarShards(ShardedDataset[TarFile]):
    """Samples in tar files, decoded when they are read."""

    def __init__(
        self,
        source: StrPath | Sequence[StrPath],
        fields: Sequence[str] | None = None,
        *,
        decoders: Mapping[str, Decoder] | None = None,
        streams: int = 8,
        window: int = 2,
        cache_dir: StrPath | None = None,
        cache_bytes: int = CACHE_BYTES,
        max_open_bytes: int = MOST_OPEN_BYTES,
    ) -> None:
        """Open shards, whose samples come in the order of the shards.

        Args:
            source: a directory of .tar files, in the order of their names, or of its index; or such files.
            fields: which make a sample, as a tuple: `("jpg", "cls")`; "jpg;jpeg;png" takes the first that is there.
                By default a sample is a dict of all its fields, with its key as "__key__".
            decoders: for ends of names, from bytes to a value; instead of those of distdl (npy, cls, txt, json; jpg
                and png with Pillow). A field without one stays bytes.
            streams, window, cache_dir, cache_bytes, max_open_bytes: see `ShardedArrays`.

        Raises:
            MissingDataError: there is no such directory or file.
            FileFormatError: a damaged file; without an index all are looked through.
        """
        self._fields = None if fields is None else tuple(field.lower() for field in fields)
        if self._fields is not None and not self._fields:
            raise checks.bad_value("fields", fields, "must be at least one, or None for all")
        self._decoders = {**DECODERS, **(decoders or {})}
        shards = find_shards(source, ".tar", lambda path: len(list_samples(path, path)))
        super().__init__(shards, streams, window, make_cache(cache_dir, cache_bytes), max_open_bytes)

    def __getitem__(self, index: int) -> Any:
        """Return one sample: a tuple of `fields`, or a dict."""
        (number,), (row,) = self.locate(np.array([index]))
        opened = self.use(int(number))
        sample = opened.samples[int(row)]
        if self._fields is None:
            return {"__key__": sample.key, **{field: self._decode(opened, sample, field) for field in sample.fields}}
        return tuple(self._decode(opened, sample, field) for field in self._fields)

    def _decode(self, opened: TarFile, sample: _Sample, field: str) -> Any:
        known = next((name for name in field.split(";") if name in sample.fields), None)
        if known is None:
            raise bad_file(opened.name, f"sample {sample.key!r} must have a field {field!r}, has {list(sample.fields)}")
        content = opened.read(sample.fields[known])
        decoder = self._decoders.get(known, self._decoders.get(known.rpartition(".")[2]))
        if decoder is None:
            return content
        try:
            return decoder(content)
        except MissingDataError:
            raise
        # What decoders raise for damaged content is theirs to choose.
        except Exception as error:
            raise bad_file(
                opened.name, f"field {known!r} of sample {sample.key!r} cannot be decoded ({error})"
            ) from error

    def _open(self, shard: Shard, files: list[Path]) -> tuple[TarFile, int]:
        found = TarFile(files[0], shard.files[0])
        if len(found.samples) != shard.samples:
            raise bad_file(shard.files[0], f"holds {len(found.samples)} samples, the index says {shard.samples}")
        return found, sum(_FIELD_BYTES * (1 + len(sample.fields)) for sample in found.samples)
