"""`trace`: a timeline over all ranks, in one file and by one clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from ..core import checks, spans
from ..core.errors import PeerError
from ..core.trace import events
from .step_times import reductions, split_reductions, step_times, table

if TYPE_CHECKING:
    from ..comm import Communicator

_HEAD = b'{"displayTimeUnit": "ms", "traceEvents": [\n'

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

    Raises:
        ArgumentError: the file's directory does not exist on rank 0.
    """

    def __init__(self, path: str | Path | None, comm: Communicator | None = None, limit: int = 500_000):
        if comm is None:
            from ..comm import world

            comm = world()
        self.path = None if path is None else Path(path)
        if comm.rank == 0 and self.path is not None and not self.path.parent.is_dir():
            raise checks.bad_value("path", str(path), "must be a file in a directory that exists")
        self.comm = comm
        self.times = np.zeros((comm.size, 0, 0), np.int64)
        self._timeline = spans.timeline(limit=limit)
        self._offsets: list[tuple[int, int]] = []

    def __enter__(self) -> Self:
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
        return table(self.times)

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
        comm = self.comm
        begin, aligned = self._aligned()
        reduced = reductions(aligned)
        others = [span for span in aligned if span.phase != "reduce"]
        common = int(comm.allreduce(len(reduced), "min"))
        starts = np.array([span.start for span in reduced[:common]], np.int64)
        last = comm.allreduce(starts.copy(), "max")
        late = comm.allreduce(np.where(starts == last, comm.rank, -1), "max")
        aligned = [*others, *split_reductions(reduced, last, late)]
        times = step_times(aligned, begin)
        steps = int(comm.allreduce(len(times), "min"))
        self.times = comm.allgather(times[:steps])
        if self.path is not None:
            self._write(aligned)

    def _write(self, aligned: list[spans.Span]) -> None:
        threads = self._timeline.recorder.threads
        lines = ",\n".join(json.dumps(event) for event in events(aligned, threads, self.comm.rank))
        own = np.frombuffer(lines.encode(), np.uint8)
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
                        file.write((b",\n" if rank else _HEAD) + received)
                        file.write(b"" if rank < self.comm.size - 1 else b"\n]}\n")
                except OSError as error:
                    problem = problem or f"{type(error).__name__}: {error}"
        problem = self.comm.broadcast_object(problem)
        if problem:
            raise PeerError(f"rank 0 cannot write the trace: {problem}")

    def _receive(self, rank: int) -> bytes:
        length = int(self.comm.recv(np.zeros(1, np.int64), rank)[0])
        return self.comm.recv(np.zeros(length, np.uint8), rank).tobytes()
