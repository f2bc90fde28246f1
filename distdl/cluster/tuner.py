"""The jobs of ranks of `distdl tune` beside trials, run by `python -m`: one measures reductions, one keeps a choice."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..comm import Communicator, world
from ..parallel import plan

MARK = "distdl-tuner "
"""What stands before the answer, a line of JSON, on standard output."""

SIZES = (1 << 12, 1 << 16, 1 << 20, 1 << 23, 25 << 20)
"""Bytes that are reduced."""

_SECONDS = 0.2
"""How long each size is measured each way, at least one reduction."""

_MOST = 200


def main(what: str, *arguments: str) -> None:
    """Do what is asked, and print the answer on rank 0."""
    comm = world()
    answer: Any = "done"
    if what == "measure":
        answer = measure(comm)
    else:
        gradient_bytes, overlap, bucket_bytes = map(int, arguments)
        plan.keep(comm, gradient_bytes, bool(overlap), bucket_bytes)
    if comm.rank == 0:
        print(MARK + json.dumps(answer), flush=True)


def measure(comm: Communicator) -> list[dict[str, float]]:
    """Return for each size the milliseconds of an allreduce: of gradients, of any other array, and MPI's own."""
    rows = []
    for size in SIZES:
        shared, plain = comm.zeros(size // 4), np.zeros(size // 4, np.float32)
        own: Callable[[Any], Any] = getattr(comm, "library_allreduce", comm.allreduce)
        ways: dict[str, Callable[[], Any]] = {
            "gradients": functools.partial(comm.allreduce, shared),
            "messages": functools.partial(comm.allreduce, plain),
            "mpi": functools.partial(own, plain),
        }
        rows.append({"bytes": size, **_interleaved(comm, ways)})
    return rows


def _interleaved(comm: Communicator, ways: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the median milliseconds of each way, of the slowest rank; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    start = time.perf_counter()
    enough = False
    while not enough:
        for name, way in ways.items():
            comm.barrier()
            begin = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - begin)
        count = len(times["mpi"])
        is_over = time.perf_counter() - start > _SECONDS * len(ways) or count >= _MOST
        enough = bool(comm.allreduce(float(is_over), "max", label="end of a measurement")) and count > 1
    return {
        name: 1e3 * float(comm.allreduce(float(np.median(found[1:])), "max", label="time"))
        for name, found in times.items()
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
