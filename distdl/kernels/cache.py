"""Where machine code is kept between runs.

Numba knows a cached function by its file's time stamp and its bytecode only. It misses edits of
other files whose functions were inlined, flags, and generated constants. So every version of the
sources, tools, flags and CPU gets a directory of its own.
"""

import contextlib
import functools
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np

from ..core import settings
from ..core.filelock import FileLock
from .cpu import cpu_features, cpu_name

config: Any = numba.config

LOCK = "lock"
"""File in a cache directory that is locked while its process compiles."""

_USED = "used"
_DAY = 86400.0
_KEPT_DAYS = 30

# Settings of Numba that change machine code without changing its key.
_FLAGS = (
    "BOUNDSCHECK",
    "DEBUGINFO_DEFAULT",
    "DISABLE_INTEL_SVML",
    "ENABLE_AVX",
    "LLVM_REFPRUNE_FLAGS",
    "LLVM_REFPRUNE_PASS",
    "LOOP_VECTORIZE",
    "OPT",
    "SLP_VECTORIZE",
    "USING_SVML",
)


@functools.cache
def cache_directory() -> Path | None:
    """Return the directory of compiled code; None if nothing can be written anywhere.

    It lies in `$DISTDL_CACHE_DIR`, else in the user's cache directory, else in a private
    directory among the temporary files. What a directory holds that can be read but not written, as
    in an image, is copied to the first one that can.
    """
    filled = None
    for base in _bases():
        directory = base / cache_key()
        if _prepare(directory, filled):
            return directory
        if filled is None and _is_filled(directory):
            filled = directory
    return None


@functools.cache
def cache_key() -> str:
    """Hash what machine code depends on: sources of the kernels, versions, CPU, flags."""
    hashed = hashlib.blake2b(digest_size=8)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        hashed.update(f"{path.name}\0".encode() + path.read_bytes())
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    flags = [getattr(config, flag, None) for flag in _FLAGS]
    hashed.update(repr((versions, cpu_name(), cpu_features(), flags)).encode())
    return f"kernels-{hashed.hexdigest()}"


@functools.cache
def source_digest(path: str) -> str:
    """Hash a source file: images and file systems that round its time stamp do not make its kernels stale."""
    return hashlib.blake2b(Path(path).read_bytes(), digest_size=8).hexdigest()


def _bases() -> Iterator[Path]:
    chosen = settings.cache_directory()
    if chosen is not None:
        yield chosen
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that relative paths are to be ignored.
    cache = Path(xdg) if os.path.isabs(xdg) else Path(os.path.expanduser("~/.cache"))
    if cache.is_absolute():
        yield cache / "distdl"
    with contextlib.suppress(OSError):
        yield _private_temporary()


def _private_temporary() -> Path:
    """Return a directory that only this user can write to: cached code is loaded as a pickle."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    directory = Path(tempfile.gettempdir()) / f"distdl-{user}"
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    status = directory.lstat()
    owned = not hasattr(os, "getuid") or status.st_uid == user
    if stat.S_ISDIR(status.st_mode) and owned and not status.st_mode & 0o022:
        return directory
    return Path(tempfile.mkdtemp(prefix="distdl-"))


def _prepare(directory: Path, filled: Path | None) -> bool:
    """Make a directory, with what `filled` holds; say whether it can be written to and locked."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        if not directory.exists():
            if filled is not None:
                _copy(filled, directory)
            directory.mkdir(exist_ok=True)
            prune(directory.parent)
        with tempfile.TemporaryFile(dir=directory):
            pass
        _note_use(directory / _USED)
    except OSError:
        return False
    return FileLock(directory / LOCK).works()


def _is_filled(directory: Path) -> bool:
    try:
        return any(directory.iterdir())
    except OSError:
        return False


def _copy(source: Path, target: Path) -> None:
    """Copy a directory so that no process sees half of it."""
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        shutil.copytree(source, part / "all", copy_function=shutil.copyfile)
        # Modes of what could only be read do not help.
        for path in (part / "all").rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (part / "all").chmod(0o755)
        with contextlib.suppress(OSError):  # another process was faster
            (part / "all").rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _note_use(mark: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if time.time() - mark.stat().st_mtime < _DAY:
            return
    mark.touch()


def prune(base: Path) -> None:
    """Remove directories of other versions that nobody has used for a month; nothing of other names."""
    for directory in base.glob("kernels-*"):
        if not re.fullmatch(r"kernels-[0-9a-f]{16}", directory.name) or directory.is_symlink():
            continue
        with contextlib.suppress(OSError):
            mark = directory / _USED
            last = (mark if mark.exists() else directory).stat().st_mtime
            lock = FileLock(directory / LOCK)
            if time.time() - last > _KEPT_DAYS * _DAY and lock.acquire(0):
                # Renamed first: a process that starts now finds all of it or nothing.
                doomed = directory.with_name(f".{directory.name}.{os.getpid()}.old")
                try:
                    directory.rename(doomed)
                finally:
                    lock.release()
                shutil.rmtree(doomed, ignore_errors=True)
