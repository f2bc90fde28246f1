"""Whether the clocks of all hosts agree."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Finding
from .report import Link, Report, names

LARGE, HUGE = 1.0, 60.0
"""Seconds: from there on logs and checkpoints of hosts are in another order than they were made."""


def check(report: Report) -> Iterator[Finding]:
    """Compare them with rank 0's; a second is a warning, a minute a failure."""
    wrong = [link for link in report.links if abs(link.skew) > LARGE]
    worst = max((abs(link.skew) for link in report.links), default=0.0)
    if wrong:
        text = f"{names(wrong, _skew)} of {report.ranks[0].host}: run NTP or chrony on all hosts"
        yield Finding("fail" if worst > HUGE else "warn", "clocks", text)
    elif len(report.hosts()) > 1:
        yield Finding("ok", "clocks", f"within {worst * 1000:.1f} ms of each other")


def _skew(link: Link) -> str:
    return f"{link.host} is {abs(link.skew):.1f} s {'ahead' if link.skew > 0 else 'behind'}"
