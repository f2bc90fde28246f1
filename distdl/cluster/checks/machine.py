"""The cores of this machine that this process may use."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator

from ...core import threads
from ...core.quota import cpu_quota
from .finding import Finding
from .request import Request


def check(request: Request) -> Iterator[Finding]:
    """Count them; a container's quota that is less than one core is a warning."""
    quota = cpu_quota()
    text = f"{platform.node()}, {len(threads.cores())} of {os.cpu_count()} cores usable"
    if quota is not None:
        text += f", a quota of {quota:g} cores' time"
    yield Finding("warn" if quota is not None and quota < 1 else "ok", "machine", text)
