"""Metrics that are exact over all ranks: each is a function of sums, and sums add up over batches and ranks."""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import checks
from ..nn import BCEWithLogitsLoss, MSELoss, functional

if TYPE_CHECKING:
    from ..comm import Communicator


class Metric:
    """A metric: `measure` gives the sums of one batch, `result` the value from sums over many.

    Attributes:
        name: its key in records.
        better: "max" or "min".
    """

    name = "metric"
    better = "max"

    def measure(self, outputs: np.ndarray, targets: np.ndarray, loss: float, weight: float) -> np.ndarray:
        """Return the sums of a batch as a float64 array, of the same shape for every batch (0 rows included).

        Args:
            outputs: what the model returned, first axis rows.
            targets: what it should have.
            loss: the batch's mean loss.
            weight: what the loss was divided by.
        """
        raise NotImplementedError

    def result(self, sums: np.ndarray) -> Any:
        """Return the metric's value, JSON-like."""
        raise NotImplementedError

    def fits(self, outputs: np.ndarray, targets: np.ndarray) -> bool:
        """Say whether there is such a thing for these outputs and targets; asked once, of the first batch."""
        return True


class Loss(Metric):
    """The mean loss over all rows (or class weights)."""

    name = "loss"
    better = "min"

    def measure(self, outputs: np.ndarray, targets: np.ndarray, loss: float, weight: float) -> np.ndarray:
        return np.array([loss * weight if weight else 0.0, weight])

    def result(self, sums: np.ndarray) -> float:
        return _ratio(sums)


class TopK(Metric):
    """The share of rows whose label is among the `k` highest outputs; classes on the last axis.

    Args:
        k: how many count.
        ignore_index: rows with this label are left out.
    """

    def __init__(self, k: int, ignore_index: int = -100):
        self.k = checks.integer("k", k, 1)
        self.ignore_index = ignore_index
        self.name = f"top{k}"

    def measure(self, outputs: np.ndarray, targets: np.ndarray, loss: float, weight: float) -> np.ndarray:
        scores, labels = _rows(outputs, targets, self.ignore_index)
        if self.k > scores.shape[-1]:
            raise checks.bad_value("k", self.k, f"must be <= the number of classes, {scores.shape[-1]}")
        own = np.take_along_axis(scores, labels[:, None], -1)
        # Ties go to the earlier class, as argmax has it; NaN is ahead of all, so that it is never right.
        ahead = (~(scores <= own)).sum(-1) + ((scores == own) & (np.arange(scores.shape[-1]) < labels[:, None])).sum(-1)
        return np.array([(ahead < self.k).sum(), len(labels)], np.float64)

    def result(self, sums: np.ndarray) -> float:
        return _ratio(sums)


class Accuracy(TopK):
    """The share of rows whose highest output is at their label."""

    def __init__(self, ignore_index: int = -100):
        super().__init__(1, ignore_index)
        self.name = "accuracy"


class DefaultAccuracy(Accuracy):
    """The accuracy, where nobody has asked for it: left out if one output has one target, as in a regression."""

    def fits(self, outputs: np.ndarray, targets: np.ndarray) -> bool:
        return targets.ndim < outputs.ndim or (targets.ndim == outputs.ndim > 1 and outputs.shape[-1] > 1)


class ConfusionMatrix(Metric):
    """Counts of (label, prediction): entry [i][j] is how many rows of class i were taken for class j.

    Args:
        classes: their number.
        ignore_index: rows with this label are left out.
    """

    name = "confusion"

    def __init__(self, classes: int, ignore_index: int = -100):
        self.classes = checks.integer("classes", classes, 1)
        self.ignore_index = ignore_index

    def measure(self, outputs: np.ndarray, targets: np.ndarray, loss: float, weight: float) -> np.ndarray:
        scores, labels = _rows(outputs, targets, self.ignore_index)
        if scores.shape[-1] > self.classes:
            raise checks.bad_value("classes", self.classes, f"must be >= the number of outputs, {scores.shape[-1]}")
        if len(labels) and not 0 <= labels.min() <= labels.max() < self.classes:
            wrong = labels.min() if labels.min() < 0 else labels.max()
            raise checks.bad_value("targets", int(wrong), f"must be labels within [0, {self.classes})")
        places = labels * self.classes + scores.argmax(-1)
        return np.bincount(places, minlength=self.classes**2).astype(np.float64)

    def result(self, sums: np.ndarray) -> list[list[int]]:
        return [[int(n) for n in row] for row in sums.reshape(self.classes, self.classes)]


def default_metrics(loss: Any) -> list[Metric]:
    """Return what is measured beside a loss if nobody says what: the accuracy, if the loss is one of classes."""
    not_of_classes = isinstance(loss, (MSELoss, BCEWithLogitsLoss)) or loss in (
        functional.mse_loss,
        functional.binary_cross_entropy_with_logits,
    )
    return [] if not_of_classes else [DefaultAccuracy()]


class Meter:
    """Adds up metrics over batches, and over the ranks when asked for the values.

    Args:
        metrics: names must differ.
        comm: the ranks.
        shards: in reproducible mode, their number: each has sums of its own, which are added up in their order,
            so that values do not depend on the number of ranks. 0: sums are added up rank by rank.
    """

    def __init__(self, metrics: Sequence[Metric], comm: "Communicator", shards: int = 0):
        self.metrics = list(metrics)
        self.comm = comm
        self._shapes: list[tuple[int, ...]] = []
        self._sums: list[np.ndarray | None] = [None] * max(1, shards)

    def update(self, outputs: np.ndarray, targets: Any, loss: float, weight: float, shard: int = 0) -> None:
        """Add a batch, or what a shard has of it."""
        targets = np.asarray(targets)
        if not self._shapes:
            self.metrics = [metric for metric in self.metrics if metric.fits(outputs, targets)]
        sums = [metric.measure(outputs, targets, loss, weight) for metric in self.metrics]
        self._shapes = [array.shape for array in sums]
        flat, before = np.concatenate([array.ravel() for array in sums]), self._sums[shard]
        self._sums[shard] = flat if before is None else before + flat

    def state(self) -> tuple[np.ndarray, list[list[int]]]:
        """Return the sums of all ranks, (shards or 1, values), and the shapes of the metrics. One collective."""
        if not self._shapes:
            raise checks.bad_value("batches", 0, "must be >= 1 on every rank to have metrics")
        return self.comm.allreduce(self._own()), [list(shape) for shape in self._shapes]

    def load_state(self, sums: np.ndarray, shapes: list[list[int]], shards: Sequence[int]) -> None:
        """Go on from sums that `state` has returned, on any number of ranks.

        Args:
            sums, shapes: as returned.
            shards: those that this rank goes on with.
        """
        self._shapes = [tuple(shape) for shape in shapes]
        for shard in shards:
            self._sums[shard] = sums[shard].copy()

    def _own(self) -> np.ndarray:
        size = sum(math.prod(shape) for shape in self._shapes)
        # Another rank has the other shards: adding zeros changes no bit.
        return np.stack([np.zeros(size) if sums is None else sums for sums in self._sums])

    def results(self) -> dict[str, Any]:
        """Return the values over all ranks; every rank must ask. One collective."""
        if not self._shapes:
            raise checks.bad_value("batches", 0, "must be >= 1 on every rank to have metrics")
        sizes = [math.prod(shape) for shape in self._shapes]
        total = functools.reduce(np.add, self.comm.allreduce(self._own()))
        parts = zip(self.metrics, np.split(total, np.cumsum(sizes)[:-1]), self._shapes, strict=True)
        return {metric.name: metric.result(part.reshape(shape)) for metric, part, shape in parts}


def _ratio(sums: np.ndarray) -> float:
    return float(sums[0] / sums[1]) if sums[1] else float("nan")


def _rows(outputs: np.ndarray, targets: np.ndarray, ignore_index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scores (rows, classes) and labels (rows,), ignored rows left out; soft targets count by their greatest."""
    if targets.ndim == outputs.ndim:
        targets = targets.argmax(-1)
    scores, labels = outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)
    kept = labels != ignore_index
    return (scores, labels) if kept.all() else (scores[kept], labels[kept])
