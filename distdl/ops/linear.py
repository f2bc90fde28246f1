"""The fully connected layer."""

from typing import Any

import numpy as np

from ..core import memory
from ..kernels.registry import dense
from ..kernels.sums import column_sums
from .checking import bad_shape, check_float, check_like
from .early import tell_final
from .products import input_gradient, product, relu_gradient, weight_gradient
from .registry import op


@op(joins_relu=True)
def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, *, relu: bool = False) -> Any:
    """x @ w + b, over the last axis of x; negative values become 0 if `relu`.

    Args:
        x: rows (..., in_features).
        w: weights (in_features, out_features).
        b: bias (out_features,) or None.
        relu: whether max(., 0) follows.
    """
    check_float("x", x)
    if w.ndim != 2:
        raise bad_shape("w", w, "(in_features, out_features)")
    if x.ndim < 1 or x.shape[-1] != w.shape[0]:
        raise bad_shape("x", x, f"(..., {w.shape[0]})", f"weights (in_features, out_features) are {w.shape}")
    check_like("w", w, x, w.shape)
    if b is not None:
        check_like("b", b, x, (w.shape[1],), "one bias for each output feature")
    rows, w = dense(x).reshape(-1, w.shape[0]), dense(w)
    y = product(rows, w, b, relu, memory.empty((len(rows), w.shape[1]), x.dtype))

    own = y if relu else None

    def backward(dy: np.ndarray, wanted: Any, mask: np.ndarray | None = None) -> Any:
        result = own if mask is None else mask.reshape(-1, w.shape[1])
        dy = dense(dy).reshape(-1, w.shape[1])
        dx = dw = db = None
        if result is not None:
            dy, db = relu_gradient(dy, result)
        elif len(wanted) > 2 and wanted[2] is not False:
            db = column_sums(dy)
        if db is not None and isinstance(wanted[2], np.ndarray):
            wanted[2][...] = db
            db = wanted[2]
            tell_final(db)
        # Before the input's, so that it is on its way meanwhile.
        if wanted[1] is not False:
            dw = wanted[1] if isinstance(wanted[1], np.ndarray) else memory.empty(w.shape, w.dtype)
            weight_gradient(rows, dy, dw)
            tell_final(dw)
        if wanted[0] is not False:
            dx = input_gradient(dy, w).reshape(x.shape)
        return (dx, dw, db)[: len(wanted)]

    return y.reshape(*x.shape[:-1], w.shape[1]), backward
