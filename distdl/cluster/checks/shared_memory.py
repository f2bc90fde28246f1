"""Room for the messages of a node's ranks."""

from __future__ import annotations

from collections.abc import Iterator

from .. import shared_memory
from .finding import Finding
from .report import Report, names
from .request import Request

MEBIBYTES = 128
"""64 MiB, what containers get by default, have failed at 16 ranks."""


def check(request: Request) -> Iterator[Finding]:
    """Look here; little room is a warning."""
    short = shared_memory.shortage(MEBIBYTES)
    free = shared_memory.free_mebibytes()
    room = f"no {shared_memory.PLACE} on this system" if free is None else f"{free} MiB free in {shared_memory.PLACE}"
    yield Finding("warn", "shared memory", short) if short else Finding("ok", "shared memory", room)


def check_ranks(report: Report) -> Iterator[Finding]:
    """Look on all hosts: each rank needs some."""
    short = {}
    for host, ranks in report.hosts().items():
        free, needed = ranks[0].shared_mebibytes, max(MEBIBYTES, shared_memory.PER_RANK_MEBIBYTES * len(ranks))
        if free is not None and free < needed:
            short[host] = f"{host} has {free} MiB, {needed} are needed"
    text = f"too little room in {shared_memory.PLACE}: {names(short.values())}; ranks there end with SIGBUS"
    if short:
        yield Finding("warn", "shared memory", text)
