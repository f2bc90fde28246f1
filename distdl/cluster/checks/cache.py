"""The directory of compiled kernels."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ...core import settings
from .finding import Finding
from .report import Report, names
from .request import Request

_ASK = "from distdl.kernels.cache import cache_directory; print(cache_directory())"
_SECONDS = 60
_NETWORK = [
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "fuse.sshfs",
    "glusterfs",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "panfs",
    "smb3",
    "9p",
]


def find() -> tuple[str, str]:
    """Return the directory ("" if none can be written), and the kind of its file system."""
    done = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, timeout=_SECONDS, check=False)
    path = done.stdout.strip()
    if done.returncode or path in ("", "None"):
        return "", ""
    return path, file_system(path)


def file_system(path: str, mounts: str = "/proc/mounts") -> str:
    """Return the kind of file system that a path is on; "" where that is not known."""
    try:
        lines = [line.split() for line in Path(mounts).read_text().splitlines()]
    except OSError:
        return ""
    above = {str(place) for place in (Path(path), *Path(path).parents)}
    return max(((len(words[1]), words[2]) for words in lines if words[1] in above), default=(0, ""))[1]


def check(request: Request) -> Iterator[Finding]:
    """Find it here; that none can be written is a warning, and so is one across the network, or another than told."""
    found, told = find(), settings.cache_directory()
    if found[0] and told is not None and told not in Path(found[0]).parents:
        text = f"DISTDL_CACHE_DIR (={told}) cannot be written: kernels are kept in {found[0]}"
        yield Finding("warn", "kernel cache", text)
    else:
        yield judge({"": found})


def check_ranks(report: Report) -> Iterator[Finding]:
    """The same on all hosts."""
    yield judge({host: (ranks[0].cache, ranks[0].cache_kind) for host, ranks in report.hosts().items()})


def judge(places: dict[str, tuple[str, str]]) -> Finding:
    """Return a finding on hosts and their directories, with the kinds of their file systems."""
    without = [host for host, (path, _) in places.items() if not path]
    if without:
        text = f"no directory can be written{_on(without)}: kernels compile anew in every process"
        return Finding("warn", "kernel cache", f"{text}; DISTDL_CACHE_DIR names one that can")
    far = [host for host, (_, kind) in places.items() if kind in _NETWORK]
    path = next(iter(places.values()))[0]
    if far:
        text = f"{path} is on a network file system ({places[far[0]][1]}){_on(far)}: many hosts load kernels from it"
        return Finding("warn", "kernel cache", f"{text}; DISTDL_CACHE_DIR names a local directory")
    return Finding("ok", "kernel cache", path)


def _on(hosts: list[str]) -> str:
    return f" on {names(hosts)}" if any(hosts) else ""
