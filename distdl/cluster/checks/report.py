"""What the ranks of the check-up's job have found, as JSON brings it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Facts:
    """What a rank knows of itself.

    Attributes:
        rank, host, process: who it is.
        place: what is the same for all ranks of a machine, and of no other.
        cores: those that it may run on.
        threads: how many it uses, and `reason` why.
        pools: threads of each library.
        versions: of distdl, Python, libraries, MPI and kind of CPU.
        has_threads: whether threads may talk by MPI.
        shared_mebibytes: free for messages on its node; None: no such place.
        cache: directory of compiled kernels, "" if none can be written, and the kind of file system it is on.
        speed: gigaflop/s of a product of matrices, while all ranks compute.
        sees_shared: whether it sees the file that rank 0 has written into the shared directory; None: not asked.
    """

    rank: int
    host: str
    process: int
    place: str
    cores: list[int]
    threads: int
    reason: str
    pools: dict[str, int]
    versions: dict[str, str]
    has_threads: bool
    shared_mebibytes: int | None
    cache: str
    cache_kind: str
    speed: float
    sees_shared: bool | None


@dataclass(frozen=True)
class Link:
    """What was measured between rank 0 and another rank, the first of its host.

    Attributes:
        host: of the other rank.
        latency: seconds, one way.
        bandwidth: bytes a second, one way.
        skew: seconds by which the other clock is ahead.
    """

    host: str
    latency: float
    bandwidth: float
    skew: float


@dataclass(frozen=True)
class Report:
    """All of it: `ranks` in their order, `links` by host; `shared` is the directory that was asked for."""

    ranks: list[Facts]
    links: list[Link]
    shared: str | None = None

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Report:
        """Make one of what JSON holds."""
        return cls(
            [Facts(**{field.name: rank[field.name] for field in fields(Facts)}) for rank in data["ranks"]],
            [Link(**link) for link in data["links"]],
            data["shared"],
        )

    def hosts(self) -> dict[str, list[Facts]]:
        """Return the ranks of each host, by name."""
        found: dict[str, list[Facts]] = {}
        for facts in self.ranks:
            found.setdefault(facts.host, []).append(facts)
        return found


def outliers(values: dict[str, float], share: float) -> list[str]:
    """Return the names whose value is less than a share of the usual one: the median, or of two the larger."""
    if len(values) < 2:
        return []
    usual = max(values.values()) if len(values) == 2 else statistics.median(values.values())
    return [name for name, value in values.items() if value < share * usual]


def names(items: Iterable[Any], text: Callable[[Any], str] = str, most: int = 4) -> str:
    """Join a few words, and count the rest."""
    words = [text(item) for item in items]
    rest = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + rest
