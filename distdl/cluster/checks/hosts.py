"""Whether the hosts of the host file answer."""

from __future__ import annotations

from collections.abc import Iterator

from ..reach import reachable
from .finding import Finding
from .report import names
from .request import Request


def check(request: Request) -> Iterator[Finding]:
    """Ask each by the remote shell; one that does not answer is a failure."""
    if not request.hosts:
        return
    gone = reachable(request.hosts, request.remote_shell)[1]
    slots = f"{len(request.hosts)} hosts with {sum(host.slots for host in request.hosts)} slots"
    if gone:
        shell = request.remote_shell
        text = f"{names(gone)} cannot be reached by {shell}: `{shell} {gone[0]} true` must work without a password"
        yield Finding("fail", "hosts", text)
    else:
        yield Finding("ok", "hosts", f"{slots}: all answer")
