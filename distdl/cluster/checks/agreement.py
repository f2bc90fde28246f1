"""Whether all hosts run the same software."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Finding
from .report import Report

_KIND = "CPU kind"


def check(report: Report) -> Iterator[Finding]:
    """Compare versions; ones that differ are a failure, kinds of CPU a warning."""
    differing = []
    for name in report.ranks[0].versions:
        hosts: dict[str, list[str]] = {}
        for facts in report.ranks:
            hosts.setdefault(facts.versions.get(name, "none"), []).append(facts.host)
        if len(hosts) > 1:
            where = "; ".join(f"{version} on {', '.join(dict.fromkeys(found))}" for version, found in hosts.items())
            differing.append((name, f"{name} is {where}"))
    wrong = [text for name, text in differing if name != _KIND]
    if wrong:
        text = f"{'. '.join(wrong)}: replicas would differ, or not understand each other; install the same everywhere"
        yield Finding("fail", "same versions", text)
    elif differing:
        text = f"{differing[0][1]}: each compiles kernels of its own, whose last bits may differ"
        yield Finding("warn", "same versions", text)
    else:
        yield Finding("ok", "same versions", f"all {len(report.ranks)} ranks run the same")
