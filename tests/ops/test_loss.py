"""What the losses promise beyond their gradients."""

import numpy as np
import pytest

from distdl.core.errors import ArgumentError, ArgumentTypeError
from distdl.ops.labels import cross_entropy_denominator
from distdl.ops.loss import binary_cross_entropy_with_logits, cross_entropy, mse_loss, nll_loss

LOGITS = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
LABELS = np.array([0, 2, 1, 1])


@pytest.mark.parametrize("loss", [cross_entropy, nll_loss])
def test_the_mean_is_the_sum_over_the_denominator(loss):
    """The denominator that a synchronizer needs is what the mean divided by: rows, or weights, that count."""
    for weight in (None, np.array([0.5, 2, 1])):
        for ignore_index in (-100, 1, 2):
            options = {"labels": LABELS, "weight": weight, "ignore_index": ignore_index}
            total = loss(LOGITS, reduction="sum", **options)[0]
            denominator = cross_entropy_denominator(LABELS, weight, ignore_index)
            np.testing.assert_allclose(loss(LOGITS, **options)[0], total / denominator, rtol=1e-6)


def test_probabilities_count_as_one_a_row():
    """With soft labels a mean divides by the rows, whatever the class weights."""
    assert cross_entropy_denominator(np.zeros((4, 5, 3)), np.array([1.0, 2, 3])) == 20


@pytest.mark.parametrize("loss", [cross_entropy, nll_loss])
@pytest.mark.parametrize(
    "options",
    [
        {"labels": np.full(4, -100)},
        {"labels": np.zeros(4, np.int64), "weight": np.array([0.0, 1, 1])},
    ],
)
def test_a_mean_over_nothing_is_zero(loss, options):
    """Where no row counts, loss and gradients are 0, not NaN: a rank without rows takes part in the step."""
    y, backward = loss(LOGITS, **options)
    assert y == 0
    np.testing.assert_array_equal(backward(np.ones((), np.float32)), np.zeros((4, 3)))


def test_far_logits_have_finite_losses():
    """Logits of 10,000 give the right loss, and infinitely improbable classes of no weight do not matter."""
    logits = np.array([[1e4, -1e4, 0], [0, -np.inf, 0]], np.float32)
    y, backward = cross_entropy(logits, labels=np.array([1, 0]), reduction="none")
    np.testing.assert_allclose(y, [2e4, np.log(2)], rtol=1e-6)
    assert np.isfinite(backward(np.ones(2, np.float32))).all()
    soft = np.array([[0, 1, 0], [0.5, 0, 0.5]], np.float32)
    np.testing.assert_allclose(cross_entropy(logits, labels=soft, reduction="none")[0], [2e4, np.log(2)], rtol=1e-6)


def test_nan_logits_give_a_nan_loss():
    """A NaN is not taken for a small number."""
    logits = LOGITS.copy()
    logits[1, 2] = np.nan
    y = cross_entropy(logits, labels=LABELS, reduction="none")[0]
    np.testing.assert_array_equal(np.isnan(y), [False, True, False, False])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: cross_entropy(LOGITS, labels=np.array([0, 3, 1, 1])),
            r"`labels\[1\]` \(=3\) must be within \[0, 2\], the classes of the logits \(4, 3\), or be `ignore_index`",
        ),
        (lambda: nll_loss(LOGITS, labels=np.array([0, 1, -1, 1])), r"`labels\[2\]` \(=-1\) must be within \[0, 2\]"),
        (
            lambda: cross_entropy(LOGITS.reshape(2, 2, 3), labels=np.array([[0, 1], [9, 0]])),
            r"`labels\[1, 0\]` \(=9\)",
        ),
        (lambda: cross_entropy(LOGITS, labels=LABELS[:3]), r"`labels` \(shape \(3,\)\) must be \(4,\)"),
        (lambda: cross_entropy(LOGITS, labels=np.zeros((4, 2))), r"`labels` \(shape \(4, 2\)\) must be \(4, 3\)"),
        (lambda: cross_entropy(LOGITS[0], labels=LABELS[0]), r"`logits` \(shape \(3,\)\) must be \(N, ..., C\)"),
        (lambda: nll_loss(LOGITS[0], labels=LABELS[0]), r"`x` \(shape \(3,\)\) must be \(N, ..., C\)"),
        (lambda: cross_entropy(LOGITS[:, :0], labels=LABELS), r"`logits` \(shape \(4, 0\)\) must have a class or more"),
        (lambda: cross_entropy(LOGITS, labels=LABELS, weight=np.ones(4)), r"`weight` \(shape \(4,\)\) must be \(3,\)"),
        (
            lambda: cross_entropy(LOGITS, labels=LABELS, weight=np.array([1, np.nan, 1])),
            r"`weight\[1\]` \(=nan\) must be finite and >= 0",
        ),
        (lambda: nll_loss(LOGITS, labels=LABELS, weight=np.array([1, 1, -2])), r"`weight\[2\]` \(=-2.0\)"),
        (lambda: cross_entropy(LOGITS, labels=LABELS, label_smoothing=1.5), r"`label_smoothing` \(=1.5\) must be <= 1"),
        (
            lambda: cross_entropy(LOGITS, labels=LABELS, reduction="avg"),
            r"`reduction` \(='avg'\) must be one of 'mean'",
        ),
        (lambda: mse_loss(LOGITS, LOGITS[:, :1]), r"`target` \(shape \(4, 1\)\) must be \(4, 3\)"),
        (
            lambda: binary_cross_entropy_with_logits(LOGITS, LOGITS[:2]),
            r"`target` \(shape \(2, 3\)\) must be \(4, 3\)",
        ),
        (
            lambda: binary_cross_entropy_with_logits(LOGITS, LOGITS, pos_weight=np.ones(4)),
            r"`pos_weight` \(shape \(4,\)\) must be broadcastable to \(4, 3\)",
        ),
        (
            lambda: binary_cross_entropy_with_logits(LOGITS, LOGITS, weight=np.array([1, -1, 1])),
            r"`weight` \(smallest -1.0\) must be >= 0",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    """The message has the argument, the place in it, the value, and the range or shape that is allowed."""
    with pytest.raises(ArgumentError, match=message):
        call()


def test_labels_are_integers():
    """Labels of another type, and integers given as booleans, are refused."""
    for labels in (LABELS.astype(bool), LABELS.astype(complex)):
        with pytest.raises(ArgumentTypeError, match=r"`labels` \(dtype .*\) must be integers"):
            cross_entropy(LOGITS, labels=labels)
    with pytest.raises(ArgumentTypeError, match=r"`labels` \(dtype float32\) must be integers"):
        nll_loss(LOGITS, labels=LOGITS)
