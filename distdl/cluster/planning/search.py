"""The best that can be chosen for each number of ranks on each network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...core import checks
from ...core.errors import ArgumentError
from ...parallel.plan import LARGE_BUCKET
from .compression import NONE, Compression
from .cost import Choice, Cluster, Prediction, predict
from .network import Link
from .workload import Workload

MOST_RANKS = 4096
"""Beyond these the model has nothing to stand on."""

BUCKETS = (1 << 18, 1 << 20, 1 << 22, LARGE_BUCKET)
"""Bytes of the buckets that are tried."""

_BATCHES = (1, 2, 4, 8)
"""Times the greatest batch profiled. Smaller ones are tried where they are asked for."""

_WORTH = 0.99
"""A choice that changes more must save more than a hundredth of a step, which no prediction tells apart."""


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        ranks: how many, each number.
        per_node: ranks on each node.
        within: link on a node.
        networks: links between nodes, by name.
        batches: rows of a rank that are tried, ascending.
        global_batch: rows of all ranks, which share them; None: each takes one of `batches`.
        target: efficiency that is enough: the smallest batch that reaches it is best.
        compressions: hooks that are tried.
    """

    ranks: Sequence[int]
    per_node: int
    within: Link | None
    networks: dict[str, Link]
    batches: Sequence[float]
    global_batch: int | None = None
    target: float = 0.8
    compressions: Sequence[Compression] = ()

    def __post_init__(self) -> None:
        checks.integer("ranks-per-node", self.per_node, 1)
        checks.real("efficiency", self.target, above=0.0, below=1.0)
        for ranks in self.ranks:
            checks.integer("ranks", ranks, 1)
            if ranks > MOST_RANKS:
                raise checks.bad_value("ranks", ranks, f"must be <= {MOST_RANKS}")
            if ranks > self.per_node and ranks % self.per_node:
                raise checks.bad_value("ranks", ranks, f"must be a multiple of the {self.per_node} ranks of a node")
        if self.global_batch is not None and checks.integer("global-batch", self.global_batch, 1) < max(self.ranks):
            raise checks.bad_value(
                "global-batch", self.global_batch, f"must be at least {max(self.ranks)}, a row for each rank"
            )
        for batch in self.batches:
            checks.real("batch", batch, 0.0)


@dataclass(frozen=True)
class Row:
    """The best for some ranks on a network, predicted.

    Attributes:
        network: its name.
        nodes, ranks: how many.
        alone: seconds of a step of one rank that has a node for itself.
        choice, prediction: with gradients as they are.
        flat: seconds of the step if all ranks were one flat tree. distdl reduces node by node wherever it can.
        compressed, compressed_prediction: with the best hook, for the same batch; `compressed` may be `choice` itself.
    """

    network: str
    nodes: int
    ranks: int
    alone: float
    choice: Choice
    prediction: Prediction
    flat: float
    compressed: Choice
    compressed_prediction: Prediction

    @property
    def efficiency(self) -> float:
        """Samples a second of all ranks, as a share of as many that have a node for themselves."""
        return self.alone / self.prediction.step

    @property
    def compressed_efficiency(self) -> float:
        """The same with the best hook."""
        return self.alone / self.compressed_prediction.step

    @property
    def samples(self) -> float:
        """Samples a second of all ranks; 0 where the batch is not known."""
        return self.ranks * self.choice.batch / self.prediction.step


def usual_ranks(per_node: int) -> list[int]:
    """Return numbers of ranks that double: within a node, then whole nodes."""
    checks.integer("ranks-per-node", per_node, 1)
    few = [1 << shift for shift in range(per_node.bit_length()) if 1 << shift < per_node]
    many = [per_node << shift for shift in range(MOST_RANKS.bit_length()) if per_node << shift <= MOST_RANKS]
    return few + many


def usual_batches(workload: Workload) -> list[float]:
    """Return the batches to try: from the greatest profiled on; 0 (as profiled) where they are not known."""
    if not workload.batches:
        return [0.0]
    return [factor * workload.batches[-1] for factor in _BATCHES]


def search(workload: Workload, question: Question) -> list[Row]:
    """Return a row for each number of ranks on each network.

    Raises:
        ArgumentError: batches are asked for, and no profile says how many rows it had.
    """
    if not workload.batches and (question.global_batch is not None or any(question.batches)):
        raise ArgumentError("`batch` cannot be chosen: the profile's loss does not say how many rows it is a mean of")
    return [
        _best(workload, question, name, link, ranks)
        for name, link in question.networks.items()
        for ranks in question.ranks
    ]


def _best(workload: Workload, question: Question, name: str, link: Link, ranks: int) -> Row:
    per_node = min(ranks, question.per_node)
    cluster = Cluster(ranks // per_node, per_node, question.within, link)
    batches = question.batches if question.global_batch is None else [question.global_batch / ranks]
    found = [_quickest(workload, cluster, batch, [NONE]) for batch in batches]
    shares = [workload.times(choice.batch, 1).total / prediction.step for choice, prediction in found]
    # Where none is efficient enough, a greater batch must be worth it.
    enough = min(question.target, _WORTH * max(shares))
    choice, prediction = next(best for best, share in zip(found, shares, strict=True) if share >= enough)
    alone = workload.times(choice.batch, 1).total
    lossy = (choice, prediction)
    if cluster.nodes > 1 and question.compressions:
        hooked = _quickest(workload, cluster, choice.batch, question.compressions)
        if hooked[1].step < _WORTH * prediction.step:
            lossy = hooked
    flat = predict(workload, cluster, replace(choice, per_node=False)).step
    return Row(name, cluster.nodes, ranks, alone, choice, prediction, flat, *lossy)


def _quickest(
    workload: Workload, cluster: Cluster, batch: float, compressions: Sequence[Compression]
) -> tuple[Choice, Prediction]:
    """Return the best choice for a batch; of those that hardly differ the plainest: large buckets, afterwards."""
    plain = Choice(batch, LARGE_BUCKET, compression=compressions[0])
    best = (plain, predict(workload, cluster, plain))
    if cluster.ranks == 1:
        return best
    for compression in compressions:
        for overlap in (False, True):
            for bucket_bytes in reversed(BUCKETS):
                choice = Choice(batch, bucket_bytes, overlap, compression=compression)
                found = (choice, predict(workload, cluster, choice))
                if found[1].step < _WORTH * best[1].step:
                    best = found
    return best
