"""What a rank did with the time of each step: computing, talking, waiting.

Reckoned from the spans of a timeline; all functions here are pure. A reduction begins when the last rank comes: what
other ranks spend before that is waiting for it, and no communication.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from ..core.spans import Span

COLUMNS = ("total", "compute", "hidden", "exposed", "data", "waiting")
"""Of each step, in nanoseconds: hidden and exposed communication, waiting for data, waiting for another rank.

Hidden communication runs beside computation; the other five are total = the sum of four."""


def reductions(spans: Sequence[Span]) -> list[Span]:
    """Return the reductions, in the order in which they began."""
    return sorted((span for span in spans if span.phase == "reduce"), key=lambda span: span.start)


def split_reductions(reduced: Sequence[Span], last: np.ndarray, late: np.ndarray) -> Iterator[Span]:
    """Cut each reduction in two: waiting for the last rank, and reducing.

    Args:
        reduced: of one rank.
        last: when the last rank began each, int64 by this rank's clock; as many, or fewer.
        late: which rank that was.
    """
    for span, begin, rank in zip(reduced, last.tolist(), late.tolist(), strict=False):
        begin = min(max(begin, span.start), span.end)
        if begin > span.start:
            yield span._replace(name=f"wait for rank {rank}", phase="wait", end=begin)
        yield span._replace(start=begin)


def step_times(spans: Sequence[Span], begin: int) -> np.ndarray:
    """Return what became of each step's time, int64 of shape (steps, len(COLUMNS)).

    A step ends with the optimizer's; the thread that runs the optimizer is the main one.

    Args:
        spans: of one rank, reductions cut by `split_reductions`.
        begin: of the first step.
    """
    ends = sorted((span for span in spans if span.phase == "step"), key=lambda span: span.end)
    if not ends:
        return np.zeros((0, len(COLUMNS)), np.int64)
    main = ends[0].thread
    bounds = [begin, *(span.end for span in ends)]
    parts: dict[str, list[Span]] = {"data": [], "reduce": [], "wait": [], "hidden": [], "late": []}
    for span in spans:
        if span.thread == main and span.phase in ("data", "reduce", "wait"):
            parts[span.phase].append(span)
        elif span.phase in ("reduce", "wait"):
            parts["hidden" if span.phase == "reduce" else "late"].append(span)
    own_waits = [span for span in parts["wait"] if span.name.startswith("wait for rank")]
    # Main waits for reductions of another thread: partly for a late rank, which that thread waits for.
    joins = [span for span in parts["wait"] if not span.name.startswith("wait for rank")]
    rows = []
    for start, end in itertools.pairwise(bounds):
        data = _within(parts["data"], start, end)
        joined = _clipped(joins, start, end)
        late_joined = sum(_within(parts["late"], a, b) for a, b in joined)
        waiting = _within(own_waits, start, end) + late_joined
        exposed = _within(parts["reduce"], start, end) + sum(b - a for a, b in joined) - late_joined
        hidden = _within(parts["hidden"], start, end) - sum(_within(parts["hidden"], a, b) for a, b in joined)
        rows.append((end - start, end - start - data - exposed - waiting, hidden, exposed, data, waiting))
    return np.array(rows, np.int64)


def _clipped(spans: Sequence[Span], begin: int, end: int) -> list[tuple[int, int]]:
    return [(max(span.start, begin), min(span.end, end)) for span in spans if span.start < end and span.end > begin]


def _within(spans: Sequence[Span], begin: int, end: int) -> int:
    return sum(b - a for a, b in _clipped(spans, begin, end))


def table(times: np.ndarray, shown: int = 10) -> str:
    """Return two tables in words: the last steps, as means over ranks, and ranks, as means over steps.

    Args:
        times: of `step_times`, for each rank: (ranks, steps, len(COLUMNS)).
        shown: how many steps.
    """
    if not times.shape[1]:
        return "the timeline has no step of an optimizer"
    milliseconds = times / 1e6
    steps = times.shape[1]
    head = "".join(f"{name:>10}" for name in COLUMNS)
    lines = [f"{'step':>6}{head}   (ms, means over {times.shape[0]} ranks)"]
    lines += [_row(str(i + 1), milliseconds[:, i].mean(axis=0)) for i in range(max(0, steps - shown), steps)]
    lines += [f"{'rank':>6}{head}   (ms, means over {steps} steps)"]
    lines += [_row(str(rank), milliseconds[rank].mean(axis=0)) for rank in range(times.shape[0])]
    return "\n".join(lines)


def _row(name: str, values: np.ndarray) -> str:
    return f"{name:>6}" + "".join(f"{value:10.3f}" for value in values)
