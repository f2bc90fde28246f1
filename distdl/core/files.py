"""Reading files that may be damaged or hostile, and writing files that survive a crash.

A reader asks here before it allocates: what a header declares must fit the file's real size and a cap.
"""

import contextlib
import errno
import os
import secrets
from pathlib import Path

from . import checks, settings
from .errors import MissingDataError
from .file_errors import StrPath, bad_file, file_size

__all__ = [
    "DEFLATE_RATIO",
    "StrPath",
    "bad_file",
    "check_declared",
    "file_size",
    "make_directory",
    "read_bounded",
    "read_limit",
    "set_read_limit",
    "sync_directory",
    "write_durably",
]

DEFLATE_RATIO = 1032
"""The most that DEFLATE (gzip, zip) can expand: 258 bytes from two bits."""

_DEFAULT_LIMIT = 64 << 30


class _State:
    """The cap that `set_read_limit` set."""

    limit: int | None = None


def set_read_limit(limit: int | None) -> None:
    """Set how many bytes one file may make a reader hold; None goes back to $DISTDL_MAX_FILE_BYTES, or 64 GiB."""
    _State.limit = None if limit is None else checks.integer("limit", limit, 1)


def read_limit() -> int:
    """Return how many bytes one file may make a reader hold."""
    if _State.limit is not None:
        return _State.limit
    return settings.max_file_bytes() or _DEFAULT_LIMIT


def check_declared(path: StrPath, what: str, declared: int, available: int, offset: int | None = None) -> None:
    """Raise unless `declared` bytes can be in `available` ones and below the cap; call it before allocating."""
    if declared > available:
        raise bad_file(path, f"{what} takes {declared} bytes, the file can hold only {available}", offset)
    if declared > read_limit():
        rule = f"{what} takes {declared} bytes, more than the limit of {read_limit()} (DISTDL_MAX_FILE_BYTES)"
        raise bad_file(path, rule, offset)


def read_bounded(path: StrPath) -> bytes:
    """Return the content of a regular file that is not larger than the cap."""
    size = file_size(path)
    check_declared(path, "the file", size, size)
    with open(path, "rb") as file:
        return file.read(size)


def write_durably(path: StrPath, content: bytes | bytearray | memoryview) -> None:
    """Write a file that, after a crash at any point, holds the old content or the new, never a part.

    A temporary file beside it is written, synced and renamed, then the directory is synced.

    Args:
        path: the file; its directory must exist.
        content: its new content.

    Raises:
        MissingDataError: the directory does not exist.
        OSError: the disk is full, or the directory cannot be written; the old file is as it was.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise MissingDataError(f"{path}: cannot be written, there is no directory {path.parent}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(path.parent)


def make_directory(directory: Path) -> None:
    """Make a directory, and those above it, that survive a crash."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """See to it that names in a directory (new files, renamed ones) survive a crash."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems have no such thing; there the rename is all that can be had.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
