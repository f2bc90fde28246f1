"""On which machine a process runs, and which network it sees: names of hosts tell neither in containers."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path


def machine() -> str:
    """Return what is the same for all processes of a machine, and of no other: the number of its last start."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return os.uname().nodename


def number_of(name: str) -> int:
    """Return a number below 2 ** 31 that is the same for the same name, and of no other for all practical purposes."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little") >> 1


def network() -> str:
    """Return what is the same for all processes that see one loopback interface."""
    with contextlib.suppress(OSError):
        return f"{os.uname().nodename} {os.readlink('/proc/self/ns/net')}"
    return os.uname().nodename
