"""Calls of the operations that layers are made of: convolution, pooling, normalisation, activations, dropout."""

import numpy as np

from .case import Case

_rng = np.random.default_rng(5)


def normal(*shape):
    return _rng.standard_normal(shape)


def distinct(*shape):
    """Return values that differ by much more than the step of a finite difference, and from 0."""
    size = int(np.prod(shape))
    return (_rng.permutation(size).reshape(shape) + 0.25 - size // 2) / 7


ACTIVATIONS = ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "silu", "softplus", "gelu")
CONVOLUTION = (normal(2, 5, 6, 4), normal(3, 2, 4, 3), normal(3))
ONE_SIDED = ((1, 0), (2, 1))

CASES = {
    **{name: [Case((distinct(3, 5),)), Case((distinct(0, 2),))] for name in ACTIVATIONS},
    "linear": [
        Case((normal(3, 5), normal(5, 2), normal(2))),
        Case((normal(2, 3, 5), normal(5, 2))),
        Case((normal(0, 5), normal(5, 2), normal(2))),
        Case((normal(5), normal(5, 2), normal(2))),
    ],
    "conv2d": [
        Case(CONVOLUTION),
        Case(CONVOLUTION, {"stride": (2, 1), "padding": ONE_SIDED, "dilation": (1, 2)}),
        Case((normal(2, 4, 4, 4), normal(3, 3, 2, 6), normal(6)), {"groups": 2, "padding": ((1, 1), (1, 1))}),
        Case((normal(2, 5, 5, 3), normal(3, 2, 1, 3), normal(3)), {"groups": 3, "padding": ONE_SIDED}),
        Case((normal(2, 5, 5, 2), normal(3, 3, 1, 4)), {"groups": 2, "stride": (2, 2), "dilation": (2, 1)}),
        Case((normal(2, 3, 3, 2), normal(1, 1, 2, 3), normal(3))),
        Case((normal(2, 5, 3, 2), normal(1, 1, 2, 3)), {"stride": (2, 2)}),
        Case((normal(0, 3, 3, 2), normal(3, 3, 2, 3), normal(3)), {"padding": ((1, 1), (1, 1))}),
        Case((normal(0, 3, 3, 2), normal(1, 1, 2, 3))),
        Case((normal(0, 3, 3, 2), normal(3, 3, 1, 2)), {"groups": 2}),
    ],
    "max_pool2d": [
        Case((distinct(2, 4, 4, 3),), {"kernel": (2, 2), "stride": (2, 2)}),
        Case((distinct(2, 5, 5, 2),), {"kernel": (3, 2), "stride": (1, 2), "padding": (1, 1)}),
        Case((distinct(1, 7, 7, 2),), {"kernel": (2, 2), "stride": (3, 4)}),
        Case((distinct(0, 4, 4, 3),), {"kernel": (2, 2), "stride": (2, 2)}),
    ],
    "avg_pool2d": [
        Case((normal(2, 4, 4, 3),), {"kernel": (2, 2), "stride": (2, 2)}),
        Case((normal(2, 5, 5, 2),), {"kernel": (3, 2), "stride": (1, 2), "padding": (1, 1)}),
        Case(
            (normal(2, 5, 5, 2),), {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1), "count_include_pad": False}
        ),
        Case((normal(0, 4, 4, 3),), {"kernel": (2, 2), "stride": (2, 2)}),
    ],
    "adaptive_avg_pool2d": [
        Case((normal(2, 5, 7, 2),), {"output_size": (1, 1)}),
        Case((normal(2, 5, 7, 2),), {"output_size": (2, 3)}),
        Case((normal(2, 2, 3, 2),), {"output_size": (4, 3)}),
        Case((normal(0, 5, 7, 2),), {"output_size": (2, 3)}),
    ],
    "batch_norm": [
        Case((normal(6, 3), normal(3), normal(3))),
        Case((normal(2, 3, 3, 2), normal(2), normal(2)), {"eps": 1e-3}),
        Case((normal(6, 3), None, None)),
        Case((normal(6, 3), normal(3), normal(3)), {"use": (normal(3), 0.5 + np.arange(3.0))}),
        Case((normal(0, 3), normal(3), normal(3))),
    ],
    "layer_norm": [
        Case((normal(4, 5), normal(5), normal(5)), {"shape": (5,)}),
        Case((normal(4, 3, 2), normal(3, 2), normal(3, 2)), {"shape": (3, 2), "eps": 1e-3}),
        Case((normal(2, 3, 4), normal(4), None), {"shape": (4,)}),
        Case((normal(2, 3, 4),), {"shape": (4,)}),
        Case((normal(0, 5), normal(5), normal(5)), {"shape": (5,)}),
    ],
    "dropout": [
        Case((normal(n, 7, 2),), {"p": p, "key": np.array([1, 2], np.uint32), "epoch": 3, "samples": np.arange(n)})
        for n, p in ((4, 0.4), (4, 0.0), (4, 1.0), (0, 0.5))
    ],
}
CASES["leaky_relu"].append(Case((distinct(3, 5),), {"negative_slope": 0.2}))
CASES["elu"].append(Case((distinct(3, 5),), {"alpha": 0.7}))
CASES["softplus"].append(Case((distinct(3, 5),), {"beta": 2.0, "threshold": 1.1}))
CASES["gelu"].append(Case((distinct(3, 5),), {"approximate": "tanh"}))
