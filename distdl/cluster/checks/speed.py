"""How fast hosts compute."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from .finding import Finding
from .report import Report, names, outliers

SLOW_SHARE = 0.7
"""A host of less than this share of the usual speed holds all up."""


def check(report: Report) -> Iterator[Finding]:
    """Show it; a host that is slow beside the others is a warning: all ranks wait for it in each step."""
    speeds = {host: statistics.median(facts.speed for facts in ranks) for host, ranks in report.hosts().items()}
    slow = outliers(speeds, SLOW_SHARE)
    usual = max(speeds.values())
    if slow:
        text = names(slow, lambda host: f"{host}: {speeds[host]:.0f} gigaflop/s a rank, others up to {usual:.0f}")
        yield Finding("warn", "slow host", f"{text}; all ranks wait for it in each step")
    else:
        most = f" at least, {usual:.0f} at most" if len(speeds) > 1 else ""
        yield Finding("ok", "speed", f"{min(speeds.values()):.0f} gigaflop/s a rank{most}")
