"""What a rank did with the time of each step: computing, talking, waiting.

Reckoned from the spans of a timeline; all functions here are pure. A collective begins when the last rank comes: what
other ranks spend before that is waiting for it, and no communication.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from ..core.spans import Span

COLUMNS = ("total", "compute", "hidden", "exposed", "data", "waiting")
"""Of each step, in nanoseconds: hidden and exposed communication, waiting for data, waiting for another rank.

Hidden communication runs beside computation; the other five are total = the sum of four."""

_WAIT = "wait for rank "


def split_reductions(reduced: Sequence[Span], last: np.ndarray, late: np.ndarray) -> Iterator[Span]:
    """Cut each collective in two: waiting for the last rank, and what follows.

    Args:
        reduced: of one rank.
        last: when the last rank began each, int64 by this rank's clock.
        late: which rank that was.
    """
    for span, begin, rank in zip(reduced, last.tolist(), late.tolist(), strict=True):
        begin = min(max(begin, span.start), span.end)
        if begin > span.start:
            yield span._replace(name=f"{_WAIT}{rank}", phase="wait", end=begin)
        yield span._replace(start=begin)


def step_times(spans: Sequence[Span], begin: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what became of each step's time, and for whom it was waited longest.

    A step ends with the optimizer's; the thread that runs the optimizer is the main one. What lies between steps
    (evaluation) is left out.

    Args:
        spans: of one rank, collectives cut by `split_reductions`.
        begin: of the first step.

    Returns:
        int64 of shape (steps, len(COLUMNS)), and ranks of shape (steps,), -1 where nobody was waited for.
    """
    ends = sorted((span for span in spans if span.phase == "step"), key=lambda span: span.end)
    main = ends[0].thread if ends else 0
    here = [span for span in spans if span.thread == main]
    beside = [span for span in spans if span.thread != main]
    data, exposed = _of(here, "data"), _of(here, "reduce")
    waits = [span for span in here if span.name.startswith(_WAIT)]
    # Main waits for another thread's reductions: partly for a late rank, for which that thread waits.
    joins = [span for span in _of(here, "wait") if not span.name.startswith(_WAIT)]
    hidden, hidden_waits = _of(beside, "reduce"), _of(beside, "wait")
    breaks = [span.end for span in _of(here, "between")]
    times, late = [], []
    for start, end in itertools.pairwise([begin, *(span.end for span in ends)]):
        start = max([start, *(moment for moment in breaks if start <= moment <= end)])
        joined = _clipped(joins, start, end)
        waited: dict[str, int] = defaultdict(int)
        for span in waits:
            waited[span.name] += _within([span], start, end)
        for a, b in joined:
            for span in hidden_waits:
                waited[span.name] += _within([span], a, b)
        in_joins = sum(_within(hidden_waits, a, b) for a, b in joined)
        columns = {
            "total": end - start,
            "hidden": _within(hidden, start, end) - sum(_within(hidden, a, b) for a, b in joined),
            "exposed": _within(exposed, start, end) + sum(b - a for a, b in joined) - in_joins,
            "data": _within(data, start, end),
            "waiting": sum(waited.values()),
        }
        columns["compute"] = end - start - columns["exposed"] - columns["data"] - columns["waiting"]
        times.append([columns[name] for name in COLUMNS])
        longest = max(waited, key=lambda name: waited[name], default="")
        late.append(int(longest.removeprefix(_WAIT)) if longest and waited[longest] else -1)
    return np.array(times, np.int64).reshape(-1, len(COLUMNS)), np.array(late, np.int64)


def _of(spans: Sequence[Span], phase: str) -> list[Span]:
    return [span for span in spans if span.phase == phase]


def _clipped(spans: Sequence[Span], begin: int, end: int) -> list[tuple[int, int]]:
    return [(max(span.start, begin), min(span.end, end)) for span in spans if span.start < end and span.end > begin]


def _within(spans: Sequence[Span], begin: int, end: int) -> int:
    return sum(b - a for a, b in _clipped(spans, begin, end))


def table(times: np.ndarray, late: np.ndarray, shown: int = 10) -> str:
    """Return two tables in words: the last steps, as means over ranks, and ranks, as means over steps.

    Args:
        times, late: of `step_times`, for each rank: (ranks, steps, len(COLUMNS)) and (ranks, steps).
        shown: how many steps.
    """
    ranks, steps = late.shape
    if not steps:
        return "the timeline has no step of an optimizer"
    milliseconds, waiting = times / 1e6, times[:, :, COLUMNS.index("waiting")]
    head = "".join(f"{name:>10}" for name in COLUMNS) + "  mostly for"
    lines = [f"{'step':>6}{head}   (ms, means over {ranks} ranks)"]
    for i in range(max(0, steps - shown), steps):
        lines.append(_row(i + 1, milliseconds[:, i].mean(axis=0), waiting[:, i], late[:, i]))
    lines += [f"{'rank':>6}{head}   (ms, means over {steps} steps)"]
    lines += [_row(rank, milliseconds[rank].mean(axis=0), waiting[rank], late[rank]) for rank in range(ranks)]
    return "\n".join(lines)


def _row(name: int, values: np.ndarray, waiting: np.ndarray, late: np.ndarray) -> str:
    waited: dict[int, int] = defaultdict(int)
    for rank, time in zip(late.tolist(), waiting.tolist(), strict=True):
        waited[rank] += time
    longest = max(waited, key=lambda rank: waited[rank])
    by = f"  {f'rank {longest}':>10}" if longest >= 0 and waited[longest] else ""
    return f"{name:>6}" + "".join(f"{value:10.3f}" for value in values) + by
