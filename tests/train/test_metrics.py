"""Metrics are exact, however the rows are shared out among batches and ranks."""

import numpy as np
import pytest

from distdl.core.errors import ArgumentError
from distdl.train import Accuracy, ConfusionMatrix, Loss, TopK
from distdl.train.metrics import Meter


@pytest.mark.mpi
@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_metrics_over_ranks_equal_those_of_all_rows(comm, batch_size):
    """Loss, accuracy, top-3 and confusion matrix do not depend on how the rows are cut."""
    random = np.random.default_rng(0)
    scores, labels = random.normal(size=(37, 4)), random.integers(0, 4, 37)
    losses = random.random(37)
    meter = Meter([Loss(), Accuracy(), TopK(3), ConfusionMatrix(4)], comm)
    mine = np.arange(37)[comm.rank :: comm.size]
    for start in range(0, 37, batch_size):
        rows = mine[start : start + batch_size]
        meter.update(scores[rows], labels[rows], float(losses[rows].mean()) if len(rows) else 0.0, float(len(rows)))
    results = meter.results()
    order = np.argsort(-scores, axis=1)
    assert results["loss"] == pytest.approx(losses.mean(), rel=1e-12)
    assert results["accuracy"] == (order[:, 0] == labels).mean()
    assert results["top3"] == (order[:, :3] == labels[:, None]).any(axis=1).mean()
    confusion = np.zeros((4, 4), int)
    np.add.at(confusion, (labels, order[:, 0]), 1)
    assert results["confusion"] == confusion.tolist()


def test_ties_go_to_the_earlier_class(comm):
    """Equal scores count as argmax counts them."""
    meter = Meter([Accuracy(), TopK(2)], comm)
    meter.update(np.zeros((3, 3)), np.array([0, 1, 2]), 0.0, 3.0)
    assert meter.results() == {"accuracy": 1 / 3, "top2": 2 / 3}


def test_ignored_rows_do_not_count(comm):
    """Rows with the ignored label are in neither sum."""
    meter = Meter([Accuracy(), ConfusionMatrix(2)], comm)
    meter.update(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, -100]), 0.0, 1.0)
    assert meter.results() == {"accuracy": 1.0, "confusion": [[1, 0], [0, 0]]}


def test_probabilities_count_by_their_greatest(comm):
    """Soft targets are right where the greatest of outputs and targets agree."""
    meter = Meter([Accuracy()], comm)
    meter.update(np.eye(2), np.array([[0.9, 0.1], [0.6, 0.4]]), 0.0, 2.0)
    assert meter.results() == {"accuracy": 0.5}


def test_nothing_counted_is_no_number(comm):
    """The accuracy of no row is NaN, and no batch at all is an error."""
    meter = Meter([Accuracy()], comm)
    with pytest.raises(ArgumentError, match="`batches`"):
        meter.results()
    meter.update(np.zeros((0, 3)), np.zeros(0, int), 0.0, 0.0)
    assert np.isnan(meter.results()["accuracy"])


def test_bad_metrics_are_named(comm):
    """k beyond the classes, and classes below the outputs, are refused."""
    with pytest.raises(ArgumentError, match="`k` "):
        Meter([TopK(5)], comm).update(np.zeros((1, 3)), np.array([0]), 0.0, 1.0)
    with pytest.raises(ArgumentError, match="`classes` "):
        Meter([ConfusionMatrix(2)], comm).update(np.zeros((1, 3)), np.array([2]), 0.0, 1.0)
    with pytest.raises(ArgumentError, match="`k` "):
        TopK(0)


def test_nan_is_never_right():
    """A row whose scores hold NaN counts as wrong, in the highest k too."""
    scores = np.array([[np.nan, np.nan, np.nan], [0.0, np.nan, 1.0], [0.0, 2.0, 1.0]])
    labels = np.array([0, 2, 1])
    np.testing.assert_array_equal(Accuracy().measure(scores, labels, 0.0, 3.0), [1, 3])
    np.testing.assert_array_equal(TopK(2).measure(scores, labels, 0.0, 3.0), [2, 3])


def test_confusion_refuses_what_it_cannot_count():
    """More outputs than classes, and labels out of range, are errors."""
    with pytest.raises(ValueError, match=r"`classes` \(=3\) must be >= the number of outputs, 4"):
        ConfusionMatrix(3).measure(np.eye(4), np.zeros(4, int), 0.0, 4.0)
    with pytest.raises(ValueError, match=r"`targets` \(=7\) must be labels within \[0, 3\)"):
        ConfusionMatrix(3).measure(np.eye(3), np.array([0, 7, 1]), 0.0, 3.0)
