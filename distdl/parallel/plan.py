"""How gradients are reduced, in buckets of which size and during backward() or after it: given, or measured."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..core import checks, files, settings, threads
from ..core.errors import ArgumentError
from ..core.json_files import parse_json
from ..kernels.cache import cache_directory
from .measure import Costs, are_alike, measure, still_hold

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

_FORMAT = 6
"""Of what is stored; greater when measurements mean something else."""


@dataclass(frozen=True)
class Plan:
    """How gradients are reduced.

    Attributes:
        overlap: whether buckets are reduced while backward() still runs.
        bucket_bytes: size at which a bucket is full.
        source: where this comes from: "given", "small model", "no threads in MPI", "measured", "stored" or "tuned".
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
    known = _known(comm)
    costs, source = known.costs, known.source
    if early is None and size is None and gradient_bytes in known.tuned:
        return Plan(*known.tuned[gradient_bytes], "tuned")
    if early is None:
        early = costs.hidden >= WORTH_HIDING
    return Plan(early, size or (overlapped_bucket(costs) if early else LARGE_BUCKET), source)


def keep(comm: Communicator, gradient_bytes: int, overlap: bool, bucket_bytes: int) -> None:
    """Store what suits these ranks and gradients best; later jobs take it, where arguments and environment are silent.

    All ranks call this together.
    """
    known = _known(comm)
    if comm.rank == 0:
        tuned = {**known.tuned, gradient_bytes: (overlap, bucket_bytes)}
        _store(_path(known.key), known._replace(tuned=tuned))
    comm.barrier()


def overlapped_bucket(costs: Costs) -> int:
    """Return the smallest power of two, in bytes, at which the latency of a reduction hardly counts."""
    enough = costs.latency / (LATENCY_SHARE * costs.seconds_per_byte)
    return min(max(1 << int(enough).bit_length(), SMALL_BUCKET), LARGE_BUCKET)


class _Known(NamedTuple):
    """What is known of reductions over some ranks.

    Attributes:
        key: the ranks, see `topology`.
        costs: of their reductions.
        source: "measured" or "stored".
        tuned: by bytes of gradients whether to overlap, and bytes of a bucket.
    """

    key: list[Any]
    costs: Costs
    source: str
    tuned: dict[int, tuple[bool, int]]


def _known(comm: Communicator) -> _Known:
    """Return what was stored before on this machine for these ranks, if it still holds, else measure now."""
    key = topology(comm)
    path = _path(key)
    stored = comm.broadcast_object(_load(path, key) if comm.rank == 0 else None)
    before = None if stored is None else _Known(key, Costs(*stored[0]), "stored", _tuned(stored[1]))
    # The same ranks may meet over another network; on one node, another time means other work beside.
    if before is not None and (_is_on_one_node(comm) or still_hold(comm, before.costs)):
        return before
    measured = measure(comm)
    # What has disturbed a quick look is no reason to forget what was found before.
    if before is not None and are_alike(measured, before.costs):
        return before
    known = _Known(key, measured, "measured", {})
    if comm.rank == 0:
        _store(path, known)
    return known


def _tuned(stored: dict[str, list[Any]]) -> dict[int, tuple[bool, int]]:
    return {int(size): (bool(overlap), int(most)) for size, (overlap, most) in stored.items()}


def _is_on_one_node(comm: Communicator) -> bool:
    return comm.local_size == comm.size


def topology(comm: Communicator) -> list[Any]:
    """Describe ranks, their places and MPI library: what the costs of a reduction depend on; [] but on rank 0."""
    places = comm.gather_object([os.uname().nodename, len(threads.cores())])
    if places is None:
        return []
    nodes = {node: i for i, node in enumerate(dict.fromkeys(node for node, _ in places))}
    wires = [os.environ.get(name, "") for name in ("UCX_TLS", "UCX_NET_DEVICES", "FI_PROVIDER")]
    return [_FORMAT, comm.describe(), [[nodes[node], cores] for node, cores in places], wires]


def _path(key: list[Any]) -> Path | None:
    directory = cache_directory()
    digest = hashlib.blake2b(json.dumps(key).encode(), digest_size=8).hexdigest()
    return None if directory is None else directory / f"reduction-{digest}.json"


def _load(path: Path | None, key: list[Any]) -> list[Any] | None:
    """Read [costs, tuned]; None for a file that is missing, damaged, or of another topology."""
    if path is None:
        return None
    try:
        stored = parse_json(path, files.read_bounded(path))
        costs = [float(value) for value in stored["costs"]]
        tuned = {str(int(size)): [bool(overlap), int(most)] for size, (overlap, most) in stored["tuned"].items()}
        usable = stored["key"] == key and len(costs) == len(Costs._fields) and all(0 <= c < 1e9 for c in costs)
        usable = usable and all(most > 0 for _, most in tuned.values()) and Costs(*costs).seconds_per_byte > 0
        return [costs, tuned] if usable else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _store(path: Path | None, known: _Known) -> None:
    # Measured again next time, if it cannot be stored.
    if path is not None:
        content = {"key": known.key, "costs": known.costs, "tuned": known.tuned}
        with contextlib.suppress(OSError):
            files.write_durably(path, json.dumps(content).encode())
