"""On which machine a process runs, and which network it sees: names of hosts tell neither in containers."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def machine() -> str:
    """Return what is the same for all processes of a machine, and of no other: the number of its last start."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return os.uname().nodename


def network() -> str:
    """Return what is the same for all processes that see one loopback interface."""
    with contextlib.suppress(OSError):
        return f"{os.uname().nodename} {os.readlink('/proc/self/ns/net')}"
    return os.uname().nodename
