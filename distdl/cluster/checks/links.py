"""How fast ranks talk."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Finding
from .report import Report, names, outliers

SLOW_SHARE = 0.5
"""A link of less than this share of the usual bandwidth is slow."""

LEAST_BANDWIDTH = 50e6
"""Bytes a second: less than half of gigabit Ethernet."""


def check(report: Report) -> Iterator[Finding]:
    """Show latency and bandwidth; a host whose link is slow beside the others', or by itself, is a warning."""
    if not report.links:
        return
    bandwidths = {link.host: link.bandwidth for link in report.links}
    slow = outliers(bandwidths, SLOW_SHARE)
    least, most = min(bandwidths.values()), max(bandwidths.values())
    latency = max(link.latency for link in report.links)
    shown = f"{latency * 1e6:.0f} us, {_rate(least)}" + (f" to {_rate(most)}" if len(bandwidths) > 1 else "")
    if slow:
        text = names(slow, lambda host: f"{host}: {_rate(bandwidths[host])}")
        others = f"to {report.ranks[0].host}, others reach {_rate(most)}"
        yield Finding("warn", "slow link", f"{text} {others}; look at its cable, switch and interface")
    elif least < LEAST_BANDWIDTH:
        question = "does MPI take the right interface?" if len(report.hosts()) > 1 else "do other jobs use the cores?"
        yield Finding("warn", "slow link", f"{shown}: slower than half of gigabit Ethernet; {question}")
    else:
        yield Finding("ok", "links", shown)


def _rate(bandwidth: float) -> str:
    return f"{bandwidth / 1e9:.1f} GB/s" if bandwidth >= 1e9 else f"{bandwidth / 1e6:.1f} MB/s"
