"""Which shards there are, and how many samples each holds: from an index file, or by a look at the headers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ...core import checks
from ...core.errors import MissingDataError
from ...core.files import StrPath, bad_file, read_bounded, write_durably
from ...core.json_files import parse_json

INDEX = "index.json"

_FORMAT = 1
_CHUNK = 1 << 20
_CHECKSUM = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Shard:
    """Some samples.

    Attributes:
        files: their files: one, or one for each array.
        samples: how many.
        checksums: of the files, see `checksum`; (): none are known.
    """

    files: tuple[Path, ...]
    samples: int
    checksums: tuple[str, ...] = ()


def checksum(path: StrPath) -> str:
    """Return the BLAKE2b hash of a file: 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def find_shards(source: StrPath | Sequence[StrPath], suffix: str, count: Callable[[Path], int]) -> list[Shard]:
    """Return the shards of a directory, by its index if it has one, or of files that are named; each of one file.

    Args:
        source: a directory, or files in the order that counts.
        suffix: of the files that count in a directory without an index, in the order of their names.
        count: returns how many samples a file holds.

    Raises:
        MissingDataError: there is no such directory or file, or none of this suffix.
        FileFormatError: a file is damaged.
    """
    if isinstance(source, (str, Path)) or not isinstance(source, Sequence):
        directory = Path(source)
        if not directory.is_dir():
            raise MissingDataError(f"{directory}: no such directory of shards")
        if (directory / INDEX).exists():
            return read_index(directory)
        files = sorted(directory.glob(f"*{suffix}"))
        if not files:
            raise MissingDataError(f"{directory}: holds neither {INDEX} nor a file of the kind *{suffix}")
    else:
        files = [Path(path) for path in source]
    return [Shard((path,), count(path)) for path in files]


def read_index(directory: Path) -> list[Shard]:
    """Read the index of a directory of shards.

    Raises:
        FileFormatError: it is none; names the rule.
    """
    path = directory / INDEX
    content = parse_json(path, read_bounded(path))
    if content.get("format") != _FORMAT:
        raise bad_file(path, f"must have format {_FORMAT}, has {content.get('format')!r}")
    entries = content.get("shards")
    if not isinstance(entries, list) or not entries:
        raise bad_file(path, "must list shards")
    return [_parse(path, number, entry) for number, entry in enumerate(entries)]


def _parse(path: Path, number: int, entry: Any) -> Shard:
    what = f"shard {number}"
    if not isinstance(entry, dict) or set(entry) != {"files", "samples", "checksums"}:
        raise bad_file(path, f"{what} must have files, samples and checksums")
    files, samples, sums = entry["files"], entry["samples"], entry["checksums"]
    if (
        not isinstance(files, list)
        or not files
        or not all(isinstance(name, str) and _is_inside(name) for name in files)
    ):
        raise bad_file(path, f"{what} must name files of its directory")
    if type(samples) is not int or samples < 1:
        raise bad_file(path, f"{what} must have samples >= 1, has {samples!r}")
    if not isinstance(sums, list) or len(sums) != len(files) or not all(_is_checksum(value) for value in sums):
        raise bad_file(path, f"{what} must have a checksum of 32 hexadecimal digits for each file")
    return Shard(tuple(path.parent / name for name in files), samples, tuple(sums))


def _is_inside(name: str) -> bool:
    member = PurePosixPath(name)
    return bool(name) and not member.is_absolute() and ".." not in member.parts and "\0" not in name


def _is_checksum(value: Any) -> bool:
    return isinstance(value, str) and _CHECKSUM.fullmatch(value) is not None


def write_index(directory: StrPath, shards: Iterable[Shard]) -> None:
    """Write the index of a directory, whose files must be there; checksums that are not known are taken."""
    directory = Path(directory)
    entries = [
        {
            "files": [path.relative_to(directory).as_posix() for path in shard.files],
            "samples": checks.integer("samples", shard.samples, 1),
            "checksums": list(shard.checksums or map(checksum, shard.files)),
        }
        for shard in shards
    ]
    content = json.dumps({"format": _FORMAT, "shards": entries}, indent=1)
    write_durably(directory / INDEX, content.encode())
