"""The job of `distdl doctor`, run by `python -m`: each rank says what it is; links, clocks and cores are measured."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..comm import world
from ..comm.system import machine, network
from ..core import threads
from . import shared_memory
from .checks import cache
from .checks.report import Facts, Link
from .checks.versions import installed

if TYPE_CHECKING:
    from ..comm import Communicator

MARK = "distdl-probe "
"""What stands before the report, a line of JSON, on standard output."""

ROUNDS = 20
"""Of small messages."""

SMALL, LARGE = 1 << 18, 1 << 23
"""Bytes that bandwidth is measured by: the larger only where the smaller are quick."""

QUICK_SECONDS = 0.02
SPEED_SIZE, SPEED_REPEATS = 512, 10
LINKS = 64
"""Hosts whose links are measured at most: one after another, up to a tenth of a second each."""


def main(shared: str | None) -> None:
    """Look, measure, and print the report on rank 0."""
    comm = world()
    place = f"{machine()} {network()}"
    places = comm.allgather_object(place)
    firsts = [places.index(other) for other in dict.fromkeys(places)]
    sees = _look_at(comm, shared)
    facts = asdict(_facts(comm, place, comm.rank in firsts, sees))
    # Ranks of a host share what its first has found.
    first = comm.allgather_object([facts["cache"], facts["cache_kind"]])[places.index(place)]
    facts["cache"], facts["cache_kind"] = first
    ranks = comm.gather_object(facts)
    others = firsts[1 : LINKS + 1] or ([1] if comm.size > 1 else [])
    links = [asdict(_measure(comm, other)) for other in others]
    if ranks is not None:
        print(MARK + json.dumps({"ranks": ranks, "links": links, "shared": shared}), flush=True)
    comm.barrier()


def _facts(comm: Communicator, place: str, is_first: bool, sees_shared: bool | None) -> Facts:
    cores, told = threads.cores(), threads.applied()
    directory, kind = cache.find() if is_first else ("", "")
    comm.barrier()
    speed = _speed()
    return Facts(
        rank=comm.rank,
        host=os.uname().nodename,
        process=os.getpid(),
        place=place,
        cores=cores,
        threads=told.count,
        reason=told.reason,
        pools=threads.pools(),
        versions={**installed(), "MPI library": comm.describe().partition(", ")[2], "CPU kind": _kind()},
        has_threads=comm.has_threads(),
        shared_mebibytes=shared_memory.free_mebibytes(),
        cache=directory,
        cache_kind=kind,
        speed=speed,
        sees_shared=sees_shared,
    )


def _speed() -> float:
    """Return gigaflop/s of a product of matrices in float32."""
    a = np.ones((SPEED_SIZE, SPEED_SIZE), np.float32)
    out = np.empty_like(a)
    times = []
    for _ in range(SPEED_REPEATS):
        start = time.perf_counter()
        np.matmul(a, a, out=out)
        times.append(time.perf_counter() - start)
    return 2 * SPEED_SIZE**3 / min(times) / 1e9


def _kind() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return os.uname().machine


def _look_at(comm: Communicator, shared: str | None) -> bool | None:
    """Return whether a file that rank 0 writes into a directory is seen here."""
    if shared is None:
        return None
    name = comm.broadcast_object(f".distdl-{secrets.token_hex(8)}")
    path = Path(shared) / name
    if comm.rank == 0:
        with contextlib.suppress(OSError):
            path.write_text(name)
    comm.barrier()
    sees = False
    with contextlib.suppress(OSError):
        sees = path.read_text() == name
    comm.barrier()
    if comm.rank == 0:
        path.unlink(missing_ok=True)
    return sees


def _measure(comm: Communicator, other: int) -> Link:
    """Measure between rank 0 and another while the rest waits."""
    host = comm.broadcast_object(os.uname().nodename, other)
    latency, skew = _latency(comm, other)
    size = SMALL
    seconds = _transfer(comm, other, size)
    if comm.broadcast_object(seconds) < QUICK_SECONDS:
        size = LARGE
        seconds = _transfer(comm, other, size)
    seconds = comm.broadcast_object(seconds)
    return Link(host, latency, size / max(seconds - latency, 1e-9), skew)


def _latency(comm: Communicator, other: int) -> tuple[float, float]:
    """Return the seconds of a small message, one way, and by how much the other's clock is ahead; on rank 0."""
    clock = np.zeros(1)
    found = []
    for _ in range(ROUNDS):
        if comm.rank == 0:
            before, start = time.time(), time.perf_counter()
            comm.send(clock, other)
            comm.recv(clock, other)
            trip = time.perf_counter() - start
            found.append((trip / 2, float(clock[0]) - before - trip / 2))
        elif comm.rank == other:
            comm.recv(clock, 0)
            comm.send(np.array([time.time()]), 0)
    comm.barrier()
    return (statistics.median(half for half, _ in found), min(found)[1]) if found else (0.0, 0.0)


def _transfer(comm: Communicator, other: int, size: int) -> float:
    """Return the seconds that so many bytes take to another rank, and a word back; on rank 0."""
    data, word = np.zeros(size, np.uint8), np.zeros(1)
    times = []
    for _ in range(3):
        if comm.rank == 0:
            start = time.perf_counter()
            comm.send(data, other)
            comm.recv(word, other)
            times.append(time.perf_counter() - start)
        elif comm.rank == other:
            comm.recv(data, 0)
            comm.send(word, 0)
    comm.barrier()
    return min(times, default=0.0)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
