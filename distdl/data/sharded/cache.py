"""A directory on a node's own disk that keeps shards of a shared file system."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import sys
from pathlib import Path

from ...core import checks
from ...core.errors import FileFormatError
from ...core.filelock import FileLock
from ...core.files import StrPath, bad_file, file_size
from .index import checksum

_PATIENCE = 600.0
"""Seconds that a rank waits for another of its node to copy a file."""

_SUFFIX = ".shard"


class NodeCache:
    """Copies of files, least recently used first to go. Ranks of a node share it: each file is copied once.

    Where a copy cannot be made (no room, a directory that cannot be written) the file itself is read, and the first
    time that is said on standard error.

    Args:
        directory: on the node's own disk; made when needed.
        max_bytes: that copies take at most, all together.
    """

    def __init__(self, directory: StrPath, max_bytes: int):
        self.directory = Path(directory)
        self.max_bytes = checks.integer("max_bytes", max_bytes, 1)
        self.copied = 0
        self._is_told = False

    def local(self, path: Path, expected: str = "") -> Path:
        """Return a copy of a file on this node, or the file itself where there can be none.

        Args:
            path: the file.
            expected: its checksum; "": not known.

        Raises:
            MissingDataError: there is no such file.
            FileFormatError: the file has another checksum.
        """
        size = file_size(path)
        if size > self.max_bytes:
            self._tell(f"{path} takes {size} bytes, more than the {self.max_bytes} of all copies")
            return path
        copy = self.directory / f"{self._name(path, size)}{_SUFFIX}"
        try:
            if not self._touch(copy, size):
                self.directory.mkdir(parents=True, exist_ok=True)
                self._copy_once(path, copy, size, expected)
        except FileFormatError:
            raise
        except OSError as error:
            self._tell(f"no copy of {path} in {self.directory}: {error.strerror or error}")
            return path
        return copy

    def _name(self, path: Path, size: int) -> str:
        """Name a file as it is now: one that is changed gets another copy."""
        words = f"{path.resolve()}\n{size}\n{path.stat().st_mtime_ns}"
        return hashlib.blake2b(words.encode(), digest_size=12).hexdigest()

    def _touch(self, copy: Path, size: int) -> bool:
        """Say whether a copy is there, and note that it is used."""
        try:
            if copy.stat().st_size != size:
                return False
            os.utime(copy)
        except FileNotFoundError:
            return False
        return True

    def _copy_once(self, path: Path, copy: Path, size: int, expected: str) -> None:
        # One for all files: room that is made for one is not taken by another, and what lies half done is nobody's.
        lock = FileLock(self.directory / "copies.lock")
        if not lock.acquire(_PATIENCE):
            raise OSError(f"another process has been copying for {_PATIENCE:g} s")
        try:
            if not self._touch(copy, size):
                self._make_room(size)
                self._copy(path, copy, expected)
        finally:
            lock.release()

    def _copy(self, path: Path, copy: Path, expected: str) -> None:
        temporary = copy.with_suffix(f".{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            shutil.copyfile(path, temporary)
            found = checksum(temporary) if expected else ""
            if found != expected:
                raise bad_file(path, f"has checksum {found}, the index says {expected}: it is damaged, or was changed")
            os.replace(temporary, copy)
            self.copied += 1
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()

    def _make_room(self, size: int) -> None:
        """Remove the copies that were not used for longest. Whoever has one open goes on reading it."""
        for left in self.directory.glob("*.tmp"):
            left.unlink(missing_ok=True)
        found = []
        for copy in self.directory.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                status = copy.stat()
                found.append((status.st_mtime_ns, status.st_size, copy))
        taken = sum(length for _, length, _ in found)
        for _, length, copy in sorted(found):
            if taken + size <= self.max_bytes:
                break
            with contextlib.suppress(FileNotFoundError):
                copy.unlink()
            taken -= length
        if shutil.disk_usage(self.directory).free < size:
            raise OSError("no room on the disk")

    def _tell(self, text: str) -> None:
        if not self._is_told:
            self._is_told = True
            print(f"distdl: {text}; shards are read where they lie", file=sys.stderr, flush=True)
