"""Calls of softmax and of the losses."""

import numpy as np

from .case import Case

_rng = np.random.default_rng(6)


def normal(*shape):
    return _rng.standard_normal(shape)


def uniform(*shape):
    return _rng.random(shape)


LABELS = np.array([0, 2, -100, 1])
OPTIONS = (
    {"labels": LABELS},
    {"labels": LABELS, "reduction": "sum"},
    {"labels": LABELS, "weight": uniform(3)},
    {"labels": LABELS, "weight": uniform(3), "reduction": "none"},
    {"labels": np.array([0, 5, 1, 5], np.uint8), "ignore_index": 5},
    {"labels": np.full(4, -100)},
)
IMAGE_LABELS = _rng.integers(0, 3, (2, 2, 2))
BINARY = (normal(4, 3), uniform(4, 3))

CASES = {
    "softmax": [Case((normal(4, 3),)), Case((normal(4, 3, 2),), {"axis": 1}), Case((normal(0, 3),))],
    "log_softmax": [Case((normal(4, 3),)), Case((normal(4, 3, 2),), {"axis": 1}), Case((normal(0, 3),))],
    "cross_entropy": [
        *(Case((normal(4, 3),), options) for options in OPTIONS),
        Case((normal(4, 3),), {"labels": LABELS, "weight": uniform(3), "label_smoothing": 0.2}),
        Case((normal(2, 2, 2, 3),), {"labels": IMAGE_LABELS, "reduction": "none"}),
        Case((normal(4, 3),), {"labels": uniform(4, 3)}),
        Case((normal(4, 3),), {"labels": uniform(4, 3), "weight": uniform(3), "label_smoothing": 0.1}),
        Case((normal(2, 2, 2, 3),), {"labels": uniform(2, 2, 2, 3), "reduction": "none"}),
        Case((normal(0, 3),), {"labels": np.zeros(0, np.int64)}),
        Case((normal(0, 3),), {"labels": np.zeros((0, 3))}),
    ],
    "nll_loss": [
        *(Case((normal(4, 3),), options) for options in OPTIONS),
        Case((normal(2, 2, 2, 3),), {"labels": IMAGE_LABELS}),
        Case((normal(0, 3),), {"labels": np.zeros(0, np.int64)}),
    ],
    "mse_loss": [
        *(Case((normal(4, 3), normal(4, 3)), {"reduction": name}) for name in ("mean", "sum", "none")),
        Case((normal(0, 3), normal(0, 3))),
    ],
    "binary_cross_entropy_with_logits": [
        *(Case(BINARY, {"reduction": name}) for name in ("mean", "sum", "none")),
        Case(BINARY, {"weight": uniform(4, 1), "pos_weight": uniform(3)}),
        Case((normal(0, 3), uniform(0, 3))),
    ],
}
