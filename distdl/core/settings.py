"""The environment variables that distdl reads, and the file that may stand in for them; nowhere else are they read."""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path

from . import checks
from .config import read_config

VARIABLES = {
    "DISTDL_CONFIG": "file of settings (TOML) for variables that are not set",
    "DISTDL_COMM": "auto (the default), serial or mpi: over what ranks talk",
    "DISTDL_NUM_THREADS": "threads of each rank, instead of its share of the node's cores",
    "DISTDL_CONTROL_ADDRESS": "HOST or HOST:PORT of rank 0 for the control channel, where that is not found",
    "DISTDL_STALL_WARNING": "seconds (6) after which a rank that keeps others waiting is named; 0: never",
    "DISTDL_STALL_TIMEOUT": "seconds (1800) after which such a rank ends the job; 0: never",
    "DISTDL_STALL_TRACES": "1: with the lines of code that led each late rank to where it is",
    "DISTDL_LAUNCH_ID": "set by distdl launch, which knows the processes of its job by it",
    "DISTDL_CHECKPOINT_DIR": "directory for the checkpoints of Trainer.fit(), which then goes on from the newest",
    "DISTDL_DATA": "directory of data sets",
    "DISTDL_CACHE_DIR": "directory of compiled kernels",
    "DISTDL_EXACT": "1: no convolution by Winograd's algorithm, which rounds more",
    "DISTDL_OVERLAP": "auto (the default), 1 or 0: whether gradients are reduced while backward() still runs",
    "DISTDL_BUCKET_BYTES": "size of gradient buckets, instead of what suits the ranks",
    "DISTDL_MAX_FILE_BYTES": "the most that a reader takes from one file",
    "DISTDL_TRIAL_STEPS": "set by distdl tune: training ends after so many steps, and says how fast they were",
    "DISTDL_PROFILE": "file for a profile of some steps, for distdl plan, which sets it to -",
    "DISTDL_TIMELINE": "file for a timeline of the whole run, one for each rank",
}
"""What each variable means."""

CONFIGURABLE = [name for name in VARIABLES if name != "DISTDL_CONFIG"]
"""What a file of settings may set."""


def comm_kind() -> str:
    """Return over what ranks talk: "auto", "serial" or "mpi"."""
    return str(checks.one_of("DISTDL_COMM", _get("DISTDL_COMM") or "auto", ("auto", "serial", "mpi")))


def num_threads() -> int | None:
    """Return how many threads a rank is told to use; None where nobody has said."""
    return _positive("DISTDL_NUM_THREADS")


def control_address() -> tuple[str, int] | None:
    """Return (host, port) where rank 0 is told to listen, port 0 for any; None where nobody has said."""
    said = _get("DISTDL_CONTROL_ADDRESS")
    if not said:
        return None
    host, _, port = said.partition(":")
    if not host or not (port or "0").isdecimal() or int(port or 0) > 65535:
        raise checks.bad_value("DISTDL_CONTROL_ADDRESS", said, "must be HOST or HOST:PORT")
    return host, int(port or 0)


def stall_warning() -> float:
    """Return after how many seconds of waiting a late rank is named, infinity for never."""
    return _seconds("DISTDL_STALL_WARNING", 6.0)


def stall_timeout() -> float:
    """Return after how many seconds of waiting a late rank ends the job, infinity for never."""
    return _seconds("DISTDL_STALL_TIMEOUT", 1800.0)


def stall_traces() -> bool:
    """Return whether late ranks show how they came to where they are."""
    return bool(checks.one_of("DISTDL_STALL_TRACES", _get("DISTDL_STALL_TRACES") or "0", ("0", "1")) == "1")


def checkpoint_directory() -> Path | None:
    """Return the directory for checkpoints; None where nobody has said."""
    return _path("DISTDL_CHECKPOINT_DIR")


def data_directory() -> Path | None:
    """Return the directory of data sets; None where nobody has said."""
    return _path("DISTDL_DATA")


def cache_directory() -> Path | None:
    """Return the directory for compiled kernels; None where nobody has said."""
    return _path("DISTDL_CACHE_DIR")


def exact() -> bool:
    """Return whether convolutions are told to keep to algorithms that round least."""
    return bool(checks.one_of("DISTDL_EXACT", _get("DISTDL_EXACT") or "0", ("0", "1")) == "1")


def overlap() -> bool | None:
    """Return whether gradients are to be reduced while backward() runs; None where nobody has said."""
    # A profile tells computation and reductions apart.
    default = "auto" if profile() is None else "0"
    said = checks.one_of("DISTDL_OVERLAP", _get("DISTDL_OVERLAP") or default, ("auto", "0", "1"))
    return None if said == "auto" else said == "1"


def bucket_bytes() -> int | None:
    """Return the size of gradient buckets; None where nobody has said."""
    return _positive("DISTDL_BUCKET_BYTES")


def max_file_bytes() -> int | None:
    """Return the most that a reader may take from one file; None where nobody has said."""
    return _positive("DISTDL_MAX_FILE_BYTES")


def trial_steps() -> int | None:
    """Return after how many steps a training is to end and say how fast they were; None: this is no trial."""
    return _positive("DISTDL_TRIAL_STEPS")


def profile() -> str | None:
    """Return the file for a profile of some steps, "-" for standard output; None where nobody has said."""
    return _get("DISTDL_PROFILE") or None


def timeline_path() -> Path | None:
    """Return the file for a timeline of the whole run; None where nobody has said."""
    return _path("DISTDL_TIMELINE")


def present() -> list[str]:
    """List variables that begin like ours, as they are set."""
    return sorted(name for name in os.environ if name.startswith("DISTDL_"))


def unknown() -> list[str]:
    """List variables that begin like ours but mean nothing: slips of the pen."""
    return [name for name in present() if name not in VARIABLES and not name.startswith("DISTDL_TEST_")]


def value(name: str) -> str:
    """Return what a variable says, else what the file of settings does; "" where nobody has said."""
    return os.environ.get(name) or _config(os.environ.get("DISTDL_CONFIG", "")).get(name, "")


@functools.cache
def _config(path: str) -> dict[str, str]:
    return read_config(path, CONFIGURABLE) if path else {}


def _get(name: str) -> str:
    return value(name).strip()


def _path(name: str) -> Path | None:
    found = value(name)
    return Path(found) if found else None


def _positive(name: str) -> int | None:
    said = _get(name)
    if not said:
        return None
    if not said.isdecimal() or int(said) < 1:
        raise checks.bad_value(name, said, "must be an integer >= 1")
    return int(said)


def _seconds(name: str, default: float) -> float:
    said = _get(name)
    if not said:
        return default
    try:
        seconds = float(said)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise checks.bad_value(name, said, "must be a number of seconds >= 0")
    return seconds or math.inf
