"""What becomes of the spans of a timeline: a Chrome trace, or a table."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .spans import Span

HEAD, BETWEEN, TAIL = '{"displayTimeUnit": "ms", "traceEvents": [\n', ",\n", "\n]}\n"

_SPECIAL = {"module": "(modules, between operations)", "pass": "(tape, between operations)"}


def write(path: Path, spans: Sequence[Span], threads: Sequence[str], rank: int) -> None:
    """Write spans as JSON in the Trace Event Format of Chrome; the process is the rank.

    Args:
        path: of the file.
        spans: in any order.
        threads: names of the threads, by number.
        rank: of this process.
    """
    with open(path, "w", encoding="utf-8") as file:
        file.write(HEAD + lines(spans, threads, rank) + TAIL)


def lines(spans: Sequence[Span], threads: Sequence[str], rank: int) -> str:
    """Return what stands between `HEAD` and `TAIL` for one rank; ranks are separated by `BETWEEN`."""
    return BETWEEN.join(json.dumps(event) for event in _events(spans, threads, rank))


def _events(spans: Sequence[Span], threads: Sequence[str], rank: int) -> Iterator[dict[str, object]]:
    """Yield the events of a trace of one rank: names of process and threads, then the spans."""
    yield _name("process_name", rank, 0, f"rank {rank}")
    for number, name in enumerate(threads):
        yield _name("thread_name", rank, number, name)
    for span in spans:
        yield {
            "name": span.label,
            "cat": span.phase,
            "ph": "X",
            "ts": span.start / 1000,
            "dur": (span.end - span.start) / 1000,
            "pid": rank,
            "tid": span.thread,
        }


def _name(kind: str, rank: int, thread: int, name: str) -> dict[str, object]:
    return {"name": kind, "ph": "M", "pid": rank, "tid": thread, "args": {"name": name}}


def table(spans: Sequence[Span], dropped: int = 0) -> str:
    """Return a table of time by layer and pass, greatest first.

    Time within a span that lies in another counts for the inner one only, so that the times add up.
    """
    if not spans:
        return "the timeline is empty"
    rows: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0])
    for span, own in _own_times(spans):
        row = rows[_SPECIAL.get(span.phase, span.label)]
        row[{"forward": 0, "backward": 1}.get(span.phase, 2)] += own / 1e6
        row[3] += span.phase != "backward"
    total = sum(sum(row[:3]) for row in rows.values()) or 1.0
    width = max(len(name) for name in (*rows, "layer and operation"))
    lines = [f"{'layer and operation':{width}}  total ms  share   forward  backward     other    count"]
    for name, row in sorted(rows.items(), key=lambda item: -sum(item[1][:3])):
        time = sum(row[:3])
        cells = "".join(f"{cell:10.2f}" if cell else " " * 10 for cell in row[:3])
        lines.append(f"{name:{width}}{time:10.2f}{time / total:7.1%}{cells}{int(row[3]):9d}")
    lines.append(f"{'all':{width}}{total:10.2f}")
    if dropped:
        lines.append(f"{dropped} later spans were dropped; see `limit`")
    return "\n".join(lines)


def _own_times(spans: Sequence[Span]) -> Iterator[tuple[Span, int]]:
    """Yield each span with its nanoseconds less those of the spans directly within it."""
    inner: dict[int, int] = defaultdict(int)
    stacks: dict[int, list[tuple[int, int]]] = defaultdict(list)  # by thread: (index, end) of the spans around
    ordered = sorted(spans, key=lambda span: (span.start, -span.end))
    for i, span in enumerate(ordered):
        stack = stacks[span.thread]
        while stack and stack[-1][1] <= span.start:
            stack.pop()
        if stack:
            inner[stack[-1][0]] += span.end - span.start
        stack.append((i, span.end))
    return ((span, span.end - span.start - inner[i]) for i, span in enumerate(ordered))
