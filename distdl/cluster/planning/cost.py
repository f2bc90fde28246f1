"""The model: what a step takes on a cluster. Everything that comes from here is predicted.

A step is computation, the reduction of buckets one after another, and waiting for the slowest rank:

    without overlap   max_r(forward + backward) + sum_b reduction(b) + update
    with overlap      bucket b starts when its gradients are final and bucket b - 1 is done; the step ends with the
                      later of backward() and the last bucket, and backward() is longer by the cores' time that
                      reductions take meanwhile

A reduction is messages x latency + bytes / bandwidth + bytes added x time to add one (see `traffic.py`); ranks of a
node share its link. The slowest of n ranks takes as long as the greatest of n draws of a normal distribution is
expected to (G. Blom, "Statistical Estimates and Transformed Beta-Variables", 1958: the quantile of (n - 3/8) /
(n + 1/4)).

Not in it: congestion of switches, noise that comes to many ranks at once, file systems.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np

from ...core import checks
from ...parallel.bucket import group
from .compression import NONE, Compression
from .network import Link
from .traffic import Traffic, across, barriers, steps, sum_of
from .workload import Times, Workload

_AHEAD = 512
"""Bytes of weights and flags, which go ahead of compressed gradients as they are."""

_SETTLED = 3
"""Steps until the state of the wire is that of all steps to come."""


@dataclass(frozen=True)
class Cluster:
    """Where ranks are: numbered node by node.

    Attributes:
        nodes, per_node: how many, and ranks on each.
        within, between: links on a node, and between nodes; None where there is nobody to talk to.
        sharing: ranks on one machine; None: as on one node.
    """

    nodes: int
    per_node: int
    within: Link | None
    between: Link | None
    sharing: int | None = None

    def __post_init__(self) -> None:
        checks.integer("nodes", self.nodes, 1)
        checks.integer("per_node", self.per_node, 1)
        if self.sharing is not None:
            checks.integer("sharing", self.sharing, self.per_node)
        for name, count in (("within", self.per_node), ("between", self.nodes)):
            if count > 1 and getattr(self, name) is None:
                raise checks.bad_value(name, None, f"must be a link: there are {count} to join")

    @property
    def ranks(self) -> int:
        """How many there are."""
        return self.nodes * self.per_node

    @property
    def on_machine(self) -> int:
        """How many share a machine."""
        return self.per_node if self.sharing is None else self.sharing


@dataclass(frozen=True)
class Choice:
    """What may be chosen for a run.

    Attributes:
        batch: rows of each rank; 0: as profiled, where the loss did not say.
        bucket_bytes, overlap: see `GradientSynchronizer`.
        per_node: whether ranks of a node reduce first, and nodes then; else all ranks are one flat tree.
        compression: of what goes between nodes; then `per_node` does not count.
    """

    batch: float
    bucket_bytes: int
    overlap: bool = False
    per_node: bool = True
    compression: Compression = NONE

    def __post_init__(self) -> None:
        checks.real("batch", self.batch, 0.0)
        checks.integer("bucket_bytes", self.bucket_bytes, 1)


class Prediction(NamedTuple):
    """Seconds of a step, predicted.

    Attributes:
        step: all of it, the sum of the others.
        compute: of a mean rank.
        waiting: for the slowest rank.
        exposed: reductions that nothing hides, and what hidden ones take from computation.
    """

    step: float
    compute: float
    waiting: float
    exposed: float


def predict(workload: Workload, cluster: Cluster, choice: Choice) -> Prediction:
    """Predict a step."""
    mean = workload.times(choice.batch, cluster.on_machine)
    slowest = mean.scaled(1 + workload.spread * expected_maximum(cluster.ranks))
    if cluster.ranks == 1:
        return Prediction(mean.total, mean.total, 0.0, 0.0)
    buckets = cut(tuple(workload.parameters), choice.bucket_bytes)
    step = _steady(workload, cluster, choice, slowest, buckets)
    return Prediction(step, mean.total, slowest.total - mean.total, step - slowest.total)


def expected_maximum(count: int) -> float:
    """Return by how many standard deviations the greatest of so many normal draws is expected to lie above the mean."""
    checks.integer("count", count, 1)
    return 0.0 if count == 1 else NormalDist().inv_cdf((count - 0.375) / (count + 0.25))


@functools.lru_cache(maxsize=4096)
def cut(parameters: tuple[tuple[int, float], ...], bucket_bytes: int) -> list[tuple[int, float]]:
    """Return bytes of each bucket, and the share of backward() after which all its gradients are final."""
    kind = np.dtype(np.float32)
    sized = [
        SimpleNamespace(dtype=kind, data=SimpleNamespace(nbytes=nbytes), ready=ready) for nbytes, ready in parameters
    ]
    buckets: Any = group(cast(Any, sized), bucket_bytes)
    return [(sum(p.data.nbytes for p in bucket), max(p.ready for p in bucket)) for bucket in buckets]


class Wire:
    """A link in time: what it let pass, and what may pass at once after a pause."""

    def __init__(self, link: Link):
        self._link = link
        self._ahead, self._until = link.burst, 0.0

    def send(self, start: float, nbytes: float, seconds_per_byte: float) -> float:
        """Return the seconds that so many bytes take from a moment on."""
        link = self._link
        self._ahead = min(link.burst, self._ahead + max(start - self._until, 0.0) / link.seconds_per_byte)
        passing = min(self._ahead, nbytes)
        self._ahead -= passing
        taken = (nbytes - passing) * seconds_per_byte
        self._until = start + taken
        return taken


class Reduction(NamedTuple):
    """What it takes to reduce a bucket.

    Attributes:
        busy: seconds in which a core works: on its node, adding, compressing.
        between: what each rank sends to other nodes.
        on_wire: bytes that each node sends to others.
    """

    busy: float
    between: Traffic
    on_wire: float


def reduction(nbytes: float, workload: Workload, cluster: Cluster, choice: Choice) -> Reduction:
    """Return what it takes to reduce so many bytes of gradients."""
    width, add, within = cluster.per_node, workload.combine, cluster.within
    if choice.compression != NONE and cluster.nodes > 1:
        # Gradients are summed on the node, one rank talks for it, and hands out what comes of it.
        busy = nbytes * choice.compression.seconds_per_byte + 2 * _on_node(nbytes, width, within)
        sent = choice.compression.traffic(nbytes, cluster.nodes).plus(across(_AHEAD, cluster.nodes))
        return Reduction(busy + sent.added * add, sent, sent.sent)
    if choice.per_node or width == 1:
        sent = across(nbytes / width, cluster.nodes)
        return Reduction(_on_node(nbytes, width, within) + sent.added * add, sent, width * sent.sent)
    parts = steps(nbytes, cluster.ranks)
    near = sum_of([part for part in parts if part[0] < width])
    far = sum_of([part for part in parts if part[0] >= width])
    busy = near.messages * within.latency + near.sent * within.seconds_per_byte if within is not None else 0.0
    return Reduction(busy + (near.added + far.added) * add, far, width * far.sent)


def _on_node(nbytes: float, width: int, within: Link | None) -> float:
    """Return the seconds in which ranks of a node sum their arrays in shared memory."""
    if width == 1 or within is None:
        return 0.0
    return barriers(width) * within.latency + nbytes * within.seconds_per_byte


def _steady(
    workload: Workload, cluster: Cluster, choice: Choice, times: Times, buckets: list[tuple[int, float]]
) -> float:
    """Return the seconds of a step after some."""
    reductions = [reduction(nbytes, workload, cluster, choice) for nbytes, _ in buckets]
    wire = None if cluster.between is None or cluster.nodes == 1 else Wire(cluster.between)
    beside = choice.overlap and len(buckets) > 1
    disturbs = beside and not workload.has_idle_cores(cluster.on_machine)
    now = begin = 0.0
    for _ in range(_SETTLED):
        begin = now
        passed = begin + times.forward
        taken = 0.0
        free = 0.0
        computed = passed + times.backward
        for (_, ready), work in zip(buckets, reductions, strict=True):
            # What reductions have taken from the pass delays what comes later in it.
            final = passed + ready * times.backward + taken if beside else computed
            start = max(final, free)
            is_beside = beside and start < computed
            free = start + _seconds(work, wire, cluster.between, is_beside, start)
            if disturbs and start < computed:
                share = min(1.0, (computed - start) / max(free - start, 1e-12))
                stolen = share * _stolen(work, cluster.between, workload.polling, free - start)
                taken += stolen
                computed += stolen
        now = max(computed, free) + times.update
    return now - begin


def _seconds(work: Reduction, wire: Wire | None, link: Link | None, beside: bool, start: float) -> float:
    if wire is None or link is None:
        return work.busy
    seen = link.beside() if beside else link
    return work.busy + work.between.messages * seen.latency + wire.send(start, work.on_wire, seen.seconds_per_byte)


def _stolen(work: Reduction, link: Link | None, polling: float, seconds: float) -> float:
    handling = 0.0 if link is None else link.handling * work.between.sent
    waiting = max(seconds - work.busy - handling, 0.0)
    return work.busy + handling + polling * waiting
