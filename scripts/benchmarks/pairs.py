"""How two jobs are compared: blocks in turn, and the ratios of neighbours."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

Block = Callable[[int], float]
"""Does something so many times, and returns the seconds."""


@dataclass(frozen=True)
class Comparison:
    """What came out of blocks in the order A B B A.

    Attributes:
        ours, theirs: median milliseconds of one turn.
        ratio: median of theirs / ours over neighbouring blocks: above 1, ours is faster.
        low, high: the least and the greatest of these ratios.
        same_low, same_high: ratios of neighbouring blocks of one side: what is smaller than that means nothing.
        pairs: how many ratios.
    """

    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    same_low: float
    same_high: float
    pairs: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def count_for(block: Block, seconds: float) -> int:
    """Return how many turns take about so many seconds, after a first block that does not count."""
    block(2)
    return max(2, round(seconds / (block(3) / 3)))


def compare(ours: Block, theirs: Block, seconds: float, pairs: int) -> Comparison:
    """Compare two blocks of at least so many seconds each, in the order A B B A A B B A ..."""
    counts = {"a": count_for(ours, seconds), "b": count_for(theirs, seconds)}
    blocks = {"a": ours, "b": theirs}
    times: list[tuple[str, float]] = []
    for pair in range(pairs):
        for side in "ab" if pair % 2 == 0 else "ba":
            times.append((side, blocks[side](counts[side]) / counts[side] * 1e3))
    of = {side: [time for who, time in times if who == side] for side in "ab"}
    ratios = [b / a for a, b in zip(of["a"], of["b"], strict=True)]
    neighbours = zip(times[1::2], times[2::2], strict=False)
    same = [first[1] / second[1] for first, second in neighbours] or [1.0]
    return Comparison(
        statistics.median(of["a"]), statistics.median(of["b"]), statistics.median(ratios), min(ratios), max(ratios),
        min(same), max(same), len(ratios),
    )  # fmt: skip


def best(candidates: dict[str, Block], seconds: float) -> str:
    """Return the name of the fastest of some blocks, each taken twice."""
    counts = {name: count_for(block, seconds / 2) for name, block in candidates.items()}
    times = {name: [] for name in candidates}  # type: dict[str, list[float]]
    for _ in range(2):
        for name, block in candidates.items():
            times[name].append(block(counts[name]) / counts[name])
    return min(times, key=lambda name: min(times[name]))
