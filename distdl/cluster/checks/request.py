"""What the check-up is asked to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...core import checks
from ..hosts import Host


@dataclass(frozen=True)
class Request:
    """A job that is meant to run.

    Attributes:
        ranks: how many.
        hosts: where; empty: on this machine.
        remote_shell: the command that reaches hosts.
        shared: a directory that all hosts should see; None: none is needed.
    """

    ranks: int = 2
    hosts: Sequence[Host] = ()
    remote_shell: str = "ssh"
    shared: str | None = None

    def __post_init__(self) -> None:
        checks.integer("ranks", self.ranks, 1)
        slots = sum(host.slots for host in self.hosts)
        if self.hosts and self.ranks > slots:
            raise checks.bad_value("ranks", self.ranks, f"must be at most {slots}, the slots of all hosts")
