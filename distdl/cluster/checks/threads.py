"""How many threads ranks would use on this machine."""

from __future__ import annotations

from collections.abc import Iterator

from ...core import threads
from .finding import Finding
from .request import Request


def check(request: Request) -> Iterator[Finding]:
    """Plan for one and two ranks a node; more threads than cores are a warning."""
    mine = threads.cores()
    plans = {ranks: threads.plan(mine, [mine] * ranks) for ranks in (1, 2)}
    complaint = threads.complaint(plans[2], mine)
    if complaint:
        yield Finding("warn", "threads", complaint)
        return
    counts = [f"{plan.count} with {ranks} rank{'s' if ranks > 1 else ''} a node" for ranks, plan in plans.items()]
    told = plans[2].reason if plans[2].reason.isupper() else ""
    yield Finding("ok", "threads", f"{', '.join(counts)}{f' (set by {told})' if told else ''}")
