"""How kernels are compiled, and where the machine code is kept between runs.

Numba knows a cached function by its file's time stamp and its bytecode only. It misses edits of
other files whose functions were inlined, flags, and generated constants. So every version of the
sources, tools, flags and CPU gets a directory of its own.
"""

import contextlib
import functools
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite
import numba
import numpy as np
from llvmlite import binding

from ..core import settings

Function = TypeVar("Function", bound=Callable[..., Any])

config: Any = numba.config

# Settings of Numba that change machine code without changing its key.
_FLAGS = ("BOUNDSCHECK", "DEBUGINFO_DEFAULT", "ENABLE_AVX", "LOOP_VECTORIZE", "OPT", "SLP_VECTORIZE")


def jit(function: Function, reassociate: bool = False, contract: bool = True) -> Function:
    """Compile a function at its first call for each combination of argument types.

    Sums keep their order unless `reassociate`, NaN and infinities are kept always; a division by
    zero gives what NumPy's gives. The interpreter lock is released while it runs. Products and sums may
    be rounded once together if `contract`.
    """
    fastmath = {flag for flag, is_on in (("contract", contract), ("reassoc", reassociate)) if is_on}
    directory = cache_directory()
    with _numba_cache(directory):
        compiled: Any = numba.njit(cache=directory is not None, nogil=True, error_model="numpy", fastmath=fastmath)(
            function
        )
    return cast(Function, compiled)


@functools.cache
def cache_directory() -> Path | None:
    """Return the directory of compiled code; None if nothing can be written anywhere.

    It lies in `$DISTDL_CACHE_DIR`, else in the user's cache directory, else in a private
    directory among the temporary files.
    """
    for base in _bases():
        directory = base / cache_key()
        if _is_writable(directory):
            return directory
    return None


@functools.cache
def cache_key() -> str:
    """Hash what machine code depends on: sources of the kernels, versions, CPU, flags."""
    hashed = hashlib.blake2b(digest_size=8)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        hashed.update(f"{path.name}\0".encode() + path.read_bytes())
    cpu = config.CPU_NAME or binding.get_host_cpu_name()
    features = config.CPU_FEATURES or binding.get_host_cpu_features().flatten()
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    hashed.update(repr((versions, cpu, features, [getattr(config, flag, None) for flag in _FLAGS])).encode())
    return f"kernels-{hashed.hexdigest()}"


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


def _is_writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def _numba_cache(directory: Path | None) -> Iterator[None]:
    """Point Numba's cache at `directory` while a function is being decorated; other libraries keep theirs."""
    before = config.CACHE_DIR
    config.CACHE_DIR = str(directory or "")
    try:
        yield
    finally:
        config.CACHE_DIR = before
