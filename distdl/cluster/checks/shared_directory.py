"""Whether all hosts see one directory."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Finding
from .report import Report, names


def check(report: Report) -> Iterator[Finding]:
    """Look whether what rank 0 has written is there; a host that does not see it is a failure."""
    if report.shared is None:
        return
    blind = list(dict.fromkeys(facts.host for facts in report.ranks if not facts.sees_shared))
    if len(blind) == len(report.hosts()):
        text = f"{report.shared} cannot be written by rank 0 on {report.ranks[0].host}: is it there?"
        yield Finding("fail", "shared directory", text)
    elif blind:
        text = f"{report.shared} is not the same on {names(blind)} as on {report.ranks[0].host}: mount it there"
        yield Finding("fail", "shared directory", text)
    else:
        yield Finding("ok", "shared directory", f"all hosts see {report.shared}")
