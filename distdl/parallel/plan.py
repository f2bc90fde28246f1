"""How gradients are reduced, in buckets of which size and during backward() or after it: given, or measured."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..core import checks, files, settings, threads
from ..core.errors import ArgumentError
from ..core.json_files import parse_json
from ..kernels.cache import cache_directory
from .measure import Costs, measure

if TYPE_CHECKING:
    from ..comm import Communicator

Auto = Literal["auto"]

LARGE_BUCKET = 25 << 20
"""Bytes: after backward() there is nothing to win by small buckets."""

SMALL_BUCKET = 1 << 18

SMALL_MODEL = 1 << 18
"""Bytes of gradients that are not worth a measurement: they are reduced in one piece."""

WORTH_HIDING = 0.5
"""Share of a reduction that must vanish behind computation, since starting early costs something too."""

LATENCY_SHARE = 0.05
"""The most that a bucket's latency may add to the time of its bytes."""

_FORMAT = 2
"""Of what is stored; greater when measurements mean something else."""


@dataclass(frozen=True)
class Plan:
    """How gradients are reduced.

    Attributes:
        overlap: whether buckets are reduced while backward() still runs.
        bucket_bytes: size at which a bucket is full.
        source: where this comes from: "given", "small model", "measured" or "stored".
    """

    overlap: bool
    bucket_bytes: int
    source: str


def choose(comm: Communicator, gradient_bytes: int, bucket_bytes: int | Auto, overlap: bool | Auto) -> Plan:
    """Return the plan, the same on all ranks: arguments go before the environment, that before measurements.

    Args:
        comm: the ranks; rank 0 decides.
        gradient_bytes: of all parameters.
        bucket_bytes, overlap: see `GradientSynchronizer`.
    """
    if bucket_bytes != "auto":
        checks.integer("bucket_bytes", bucket_bytes, 1)
    if overlap != "auto" and not isinstance(overlap, bool):
        raise checks.bad_type("overlap", overlap, 'must be True, False or "auto"')
    size = settings.bucket_bytes() if bucket_bytes == "auto" else bucket_bytes
    early = settings.overlap() if overlap == "auto" else overlap
    if comm.size == 1:
        return Plan(False, size or LARGE_BUCKET, "given")
    size, early = comm.broadcast_object([size, early])
    if early and not comm.has_threads():
        raise ArgumentError("`overlap` (=True) needs an MPI library that lets threads talk (MPI_THREAD_MULTIPLE)")
    if size is not None and early is not None:
        return Plan(early, size, "given")
    if early is None and (gradient_bytes <= SMALL_MODEL or not comm.has_threads()):
        return Plan(False, size or LARGE_BUCKET, "small model" if comm.has_threads() else "no threads in MPI")
    if early is False:
        return Plan(False, LARGE_BUCKET, "given")
    costs, source = _costs(comm)
    if early is None:
        early = costs.hidden >= WORTH_HIDING
    return Plan(early, size or (overlapped_bucket(costs) if early else LARGE_BUCKET), source)


def overlapped_bucket(costs: Costs) -> int:
    """Return the smallest power of two, in bytes, at which the latency of a reduction hardly counts."""
    enough = costs.latency / (LATENCY_SHARE * costs.seconds_per_byte)
    return min(max(1 << int(enough).bit_length(), SMALL_BUCKET), LARGE_BUCKET)


def _costs(comm: Communicator) -> tuple[Costs, str]:
    """Return what was measured before on this machine with these ranks, else measure now."""
    key = topology(comm)
    path = _path(key)
    known = comm.broadcast_object(_load(path, key) if comm.rank == 0 else None)
    if known is not None:
        return Costs(*known), "stored"
    costs = measure(comm)
    if comm.rank == 0:
        _store(path, key, costs)
    return costs, "measured"


def topology(comm: Communicator) -> list[Any]:
    """Describe ranks, their places and MPI library: what the costs of a reduction depend on."""
    places = comm.allgather_object([os.uname().nodename, len(threads.cores())])
    nodes = {node: i for i, node in enumerate(dict.fromkeys(node for node, _ in places))}
    wires = [os.environ.get(name, "") for name in ("UCX_TLS", "UCX_NET_DEVICES", "FI_PROVIDER")]
    return [_FORMAT, comm.describe(), [[nodes[node], cores] for node, cores in places], wires]


def _path(key: list[Any]) -> Path | None:
    directory = cache_directory()
    digest = hashlib.blake2b(json.dumps(key).encode(), digest_size=8).hexdigest()
    return None if directory is None else directory / f"reduction-{digest}.json"


def _load(path: Path | None, key: list[Any]) -> list[float] | None:
    """Read stored costs; None for a file that is missing, damaged, or of another topology."""
    if path is None:
        return None
    try:
        stored = parse_json(path, files.read_bounded(path))
        costs = [float(value) for value in stored["costs"]]
        usable = stored["key"] == key and len(costs) == len(Costs._fields) and all(0 <= c < 1e9 for c in costs)
        return costs if usable and Costs(*costs).seconds_per_byte > 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _store(path: Path | None, key: list[Any], costs: Costs) -> None:
    # Measured again next time, if it cannot be stored.
    if path is not None:
        with contextlib.suppress(OSError):
            files.write_durably(path, json.dumps({"key": key, "costs": list(costs)}).encode())
