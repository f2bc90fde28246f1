"""Writing the index of shards that others have written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...core.errors import MissingDataError
from ...core.files import StrPath
from .arrays import ShardedArrays
from .index import write_index
from .tar import TarShards


def index_shards(directory: StrPath, names: Sequence[str] | None = None) -> None:
    """Write the index of a directory of .npz, .npy or .tar files, so that whoever opens it need not look at them all.

    Args:
        directory: of shards of one kind, in the order of their names.
        names: which arrays of .npz files make a sample.

    Raises:
        MissingDataError: there is no such directory, or no shard in it.
        FileFormatError: a damaged file.
    """
    suffix = next((end for end in (".tar", ".npz") if any(Path(directory).glob(f"*{end}"))), ".npy")
    files = sorted(Path(directory).glob(f"*{suffix}"))
    if not files:
        raise MissingDataError(f"{directory}: no such directory, or no shard in it")
    found = TarShards(files) if suffix == ".tar" else ShardedArrays(files, names)
    write_index(directory, found.shards)
