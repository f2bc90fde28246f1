"""Cases for gradcheck: arithmetic, functions, reductions, shapes, matrix products."""

import numpy as np

from tests.ops.case import Case

_random = np.random.default_rng(5)


def draw(*shape):
    return np.asarray(_random.normal(size=shape))


def positive(*shape):
    return _random.uniform(0.5, 2.0, size=shape)


_BROADCAST = [(draw(3, 4), draw(4)), (draw(2, 1, 3), draw(4, 1)), (draw(3), draw(3)), (draw(2, 2), draw())]
_REDUCE = [{"axis": axis, "keepdims": keep} for axis in (None, 1, (0, -1)) for keep in (False, True)]

CASES = {
    "add": [*(Case(args) for args in _BROADCAST), Case((draw(4), 3.0))],
    "subtract": [*(Case(args) for args in _BROADCAST), Case((draw(4), 3.0))],
    "multiply": [Case(args) for args in _BROADCAST],
    "divide": [Case((draw(3, 4), positive(4))), Case((draw(3), positive(2, 3)))],
    "power": [Case((positive(3, 4), draw(4))), Case((draw(4), 3.0)), Case((positive(3), np.array(0.0)))],
    "negative": [Case((draw(3),))],
    "maximum": [Case(args) for args in _BROADCAST],
    "minimum": [Case(args) for args in _BROADCAST],
    "exp": [Case((draw(3, 2),))],
    "log": [Case((positive(3, 2),))],
    "sqrt": [Case((positive(3, 2),))],
    "absolute": [Case((draw(3, 2),))],
    "sin": [Case((draw(3),))],
    "cos": [Case((draw(3),))],
    "clip": [
        Case((draw(9),), {"minimum": -0.5, "maximum": 0.5}),
        Case((draw(9),), {"minimum": 0.0}),
        Case((draw(9),), {"maximum": 0.0}),
    ],
    "astype": [Case((draw(3),), {"dtype": np.float64})],
    "where": [Case((draw(3, 4), b), {"condition": draw(3, 4) > 0}) for b in (draw(4), 3.0)],
    "sum": [Case((draw(2, 3, 4),), {"axis": axis, "keepdims": keep}) for axis in (None, 1, (0, -1)) for keep in (0, 1)],
    "mean": [
        Case((draw(2, 3, 4),), {"axis": axis, "keepdims": keep}) for axis in (None, 1, (0, -1)) for keep in (0, 1)
    ],
    "variance": [
        Case((draw(2, 3, 4),), {"axis": axis, "correction": c}) for axis in (None, -1, (0, 2)) for c in (0, 1)
    ],
    "max": [Case((draw(2, 3, 4),), {"axis": axis}) for axis in (None, 1, (0, 2))],
    "min": [Case((draw(2, 3, 4),), {"axis": axis, "keepdims": True}) for axis in (None, 1, (0, 2))],
    "prod": [Case((draw(2, 3),), {"axis": axis}) for axis in (None, 0, -1)] + [Case((np.array([0.0, 2.0, 0.0]),))],
    "reshape": [Case((draw(2, 6),), {"shape": (3, -1)})],
    "transpose": [Case((draw(2, 3, 4),), {"axes": axes}) for axes in (None, (1, 0, 2), (-1, 0, 1))],
    "broadcast_to": [Case((draw(3, 1),), {"shape": (2, 3, 4)})],
    "getitem": [
        Case((draw(4, 5),), {"index": index})
        for index in (1, slice(1, 3), (Ellipsis, None, 2), np.array([0, 0, 3]), (np.array([0, 1]), 2))
    ]
    + [Case((draw(5),), {"index": np.array([True, False, True, True, False])})],
    "concatenate": [Case((draw(2, 3), draw(2, 1), draw(2, 2)), {"axis": -1})],
    "stack": [Case((draw(2, 3), draw(2, 3)), {"axis": 1})],
    "pad": [Case((draw(2, 3),), {"widths": ((1, 0), (0, 2)), "value": 1.5})],
    "matmul": [
        Case(args)
        for args in (
            (draw(3, 4), draw(4, 2)),
            (draw(4), draw(4)),
            (draw(4), draw(4, 2)),
            (draw(3, 4), draw(4)),
            (draw(2, 3, 4), draw(4, 5)),
            (draw(4), draw(2, 4, 5)),
            (draw(2, 1, 3, 4), draw(5, 4, 2)),
        )
    ],
}
