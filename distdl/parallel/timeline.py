"""`trace`: a timeline over all ranks, in one file and by one clock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from ..core import checks, spans
from ..core.errors import PeerError
from ..core.trace import BETWEEN, HEAD, TAIL, lines
from .step_times import COLUMNS, split_reductions, step_times, table

if TYPE_CHECKING:
    from ..comm import Communicator

_PINGS = 20
"""The quickest of so many tells how clocks differ: what delays a message makes it slower."""


class trace:
    """Record what all ranks do within the block, and write it to one file on rank 0.

        with distdl.parallel.trace("trace.json") as timeline:
            ...                                # some steps, on all ranks
        print(timeline.summary())              # after the block

    The file opens in chrome://tracing or https://ui.perfetto.dev: a process is a rank. Clocks are aligned by messages
    at the beginning and at the end (F. Cristian, 1989). If the block fails nothing is written.

    Args:
        path: of the file; None for none.
        comm: the ranks; by default `distdl.world()`.
        limit: spans that each rank keeps.

    Attributes:
        times: after the block, what became of each step's time on each rank, int64 nanoseconds of shape
            (ranks, steps, columns); see `step_times.COLUMNS`.
        late: for whom each rank has waited longest in each step, a rank of the world or -1, of shape (ranks, steps).
        dropped: how many spans lay beyond the limit, over all ranks.

    Raises:
        ArgumentError: the file's directory does not exist on rank 0; raised on all ranks, when the block begins.
    """

    def __init__(self, path: str | Path | None, comm: Communicator | None = None, limit: int = 500_000):
        if comm is None:
            from ..comm import world

            comm = world()
        self.path = None if path is None else Path(path)
        self.comm = comm
        self.times = np.zeros((comm.size, 0, len(COLUMNS)), np.int64)
        self.late = np.zeros((comm.size, 0), np.int64)
        self.dropped = 0
        self._timeline = spans.timeline(limit=limit)
        self._offsets: list[tuple[int, int]] = []

    def __enter__(self) -> Self:
        is_good = self.path is None or self.path.parent.is_dir()
        path, is_good = self.comm.broadcast_object([self.path and str(self.path), is_good])
        if not is_good:
            raise checks.bad_value("path", path, "must be a file in a directory that exists on rank 0")
        self.path = None if path is None else Path(path)
        self._offsets = [self._measure_offset()]
        self._timeline.__enter__()
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        self._timeline.__exit__()
        if kind is None:
            self._offsets.append(self._measure_offset())
            self._gather()

    def summary(self) -> str:
        """Return what became of the time: of the last steps, and on each rank."""
        text = table(self.times, self.late)
        return f"{text}\n{self.dropped} later spans were dropped; see `limit`" if self.dropped else text

    def _measure_offset(self) -> tuple[int, int]:
        """Return the time, and how far this rank's clock is ahead of rank 0's."""
        clock, comm = spans.clock, self.comm
        stamp = np.zeros(1, np.int64)
        if comm.rank:
            for _ in range(_PINGS):
                comm.recv(stamp, 0)
                comm.send(np.array([clock()]), 0)
            return clock(), int(comm.recv(stamp, 0)[0])
        for rank in range(1, comm.size):
            found = []
            for _ in range(_PINGS):
                start = clock()
                comm.send(stamp, rank)
                theirs = int(comm.recv(np.zeros(1, np.int64), rank)[0])
                end = clock()
                found.append((end - start, theirs - (start + end) // 2))
            comm.send(np.array([min(found)[1]]), rank)
        return clock(), 0

    def _aligned(self) -> tuple[int, list[spans.Span]]:
        """Return when the block began here, and the spans, by rank 0's clock from when it began there on."""
        (begin, first), (end, last) = self._offsets
        zero = int(self.comm.broadcast(np.array([begin]))[0])
        drift = (last - first) / max(end - begin, 1)

        def align(time: int) -> int:
            return time - first - round(drift * (time - begin)) - zero

        aligned = [span._replace(start=align(span.start), end=align(span.end)) for span in self._timeline.spans]
        return align(begin), aligned

    def _gather(self) -> None:
        begin, aligned = self._aligned()
        cut = [span for span in aligned if span.phase != "reduce"]
        for part in self._parts():
            cut += _cut(part, [span for span in aligned if span.key.rpartition(" ")[0] == part.name])
        times, late = step_times(cut, begin)
        steps = int(self.comm.allreduce(len(times), "min"))
        self.times = self.comm.allgather(times[:steps])
        self.late = self.comm.allgather(late[:steps])
        self.dropped = int(self.comm.allreduce(self._timeline.recorder.dropped))
        if self.path is not None:
            self._write(cut)

    def _parts(self) -> list[Communicator]:
        """Return the communicators among these ranks that this one is in, in an order that all agree on."""
        family = getattr(self.comm, "family", [self.comm])
        return [part for part in family if set(part.members) <= set(self.comm.members)]

    def _write(self, aligned: list[spans.Span]) -> None:
        own = np.frombuffer(lines(aligned, self._timeline.recorder.threads, self.comm.rank).encode(), np.uint8)
        problem = ""
        if self.comm.rank:
            self.comm.send(np.array([len(own)]), 0)
            self.comm.send(own, 0)
        else:
            assert self.path is not None
            for rank in range(self.comm.size):
                # Taken whatever becomes of it: the others wait.
                received = self._receive(rank) if rank else own.tobytes()
                try:
                    with self.path.open("ab" if rank else "wb") as file:
                        file.write((BETWEEN if rank else HEAD).encode() + received)
                        file.write(TAIL.encode() if rank == self.comm.size - 1 else b"")
                except OSError as error:
                    problem = problem or f"{type(error).__name__}: {error}"
        problem = self.comm.broadcast_object(problem)
        if problem:
            raise PeerError(f"rank 0 cannot write the trace: {problem}")

    def _receive(self, rank: int) -> bytes:
        length = int(self.comm.recv(np.zeros(1, np.int64), rank)[0])
        return self.comm.recv(np.zeros(length, np.uint8), rank).tobytes()


def _cut(part: Communicator, collectives: list[spans.Span]) -> list[spans.Span]:
    """Cut the collectives of one communicator where their last rank came; all its members call this."""
    by_number = {int(span.key.rpartition(" ")[2]): span for span in collectives}
    # Some may have dropped what lay beyond the limit.
    bounds = part.allgather(np.array([min(by_number, default=0), max(by_number, default=-1)]))
    numbers = range(int(bounds[:, 0].max()), int(bounds[:, 1].min()) + 1)
    shared = [by_number.pop(number) for number in numbers]
    if not shared:
        return collectives
    starts = np.array([span.start for span in shared], np.int64)
    last = part.allreduce(starts.copy(), "max")
    late = part.allreduce(np.where(starts == last, part.members[part.rank], -1), "max")
    return [*split_reductions(shared, last, late), *by_number.values()]
