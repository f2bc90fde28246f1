"""Whether ranks and their threads fit the cores that launcher and node give them."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Finding
from .report import Facts, Report, names


def check(report: Report) -> Iterator[Finding]:
    """Count threads by core; more threads than cores are a warning, of one rank, of a node, or of a library."""
    crowded = [facts for facts in report.ranks if facts.threads > len(facts.cores)]
    full = {host: ranks for host, ranks in report.hosts().items() if _threads(ranks) > len(_cores(ranks))}
    if crowded:
        text = names(crowded, _told)
        first = crowded[0]
        cores = f"core {first.cores[0]} alone" if len(first.cores) == 1 else f"{len(first.cores)} cores"
        yield Finding("warn", "binding", f"{text}, bound to {cores}: give a rank as many cores as it has threads")
    elif full:
        text = names(full.items(), _place)
        yield Finding("warn", "oversubscription", f"{text}: ranks wait for each other's time; take fewer a node")
    else:
        yield Finding("ok", "binding", names(report.hosts().items(), _place))
    pools = {
        f"{name} on rank {facts.rank} ({facts.host}): {count} threads, {facts.threads} are its share": None
        for facts in report.ranks
        for name, count in facts.pools.items()
        if count > facts.threads
    }
    if pools:
        text = f"{names(pools)}; a setting of the library's own (such as OPENBLAS_NUM_THREADS) may say so"
        yield Finding("warn", "thread pools", text)
    else:
        yield Finding("ok", "thread pools", ", ".join(f"{name}: {n}" for name, n in report.ranks[0].pools.items()))
    level = all(facts.has_threads for facts in report.ranks)
    text = "MPI_THREAD_MULTIPLE" if level else "threads may not talk: gradients are not reduced during backward()"
    yield Finding("ok" if level else "warn", "thread level", text)


def _threads(ranks: list[Facts]) -> int:
    return sum(facts.threads for facts in ranks)


def _cores(ranks: list[Facts]) -> set[int]:
    return {core for facts in ranks for core in facts.cores}


def _count(ranks: list[Facts]) -> str:
    count = len(_cores(ranks))
    return f"{count} core{'s' if count > 1 else ''}"


def _told(facts: Facts) -> str:
    return f"rank {facts.rank} on {facts.host}: {facts.threads} threads ({facts.reason})"


def _place(item: tuple[str, list[Facts]]) -> str:
    host, ranks = item
    return f"{host}: {_threads(ranks)} threads of {len(ranks)} ranks on {_count(ranks)}"
