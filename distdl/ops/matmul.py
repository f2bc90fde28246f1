"""Matrix products."""

from typing import Any

import numpy as np

from .broadcast import sum_to
from .registry import op


@op
def matmul(a: np.ndarray, b: np.ndarray) -> Any:
    """a @ b as NumPy has it: vectors, matrices, and stacks of matrices that broadcast."""

    def backward(dy: np.ndarray, wanted: Any) -> Any:
        rows = a[None, :] if a.ndim == 1 else a
        columns = b[:, None] if b.ndim == 1 else b
        if a.ndim == 1:
            dy = np.expand_dims(dy, -2) if b.ndim > 1 else dy[None]
        if b.ndim == 1:
            dy = np.expand_dims(dy, -1)
        da = db = None
        if wanted[0] is not False:
            da = sum_to(np.matmul(dy, columns.swapaxes(-1, -2)), rows.shape).reshape(a.shape)
        if wanted[1] is not False:
            # A plain product can be written where the gradient belongs, saving a copy.
            out = wanted[1] if isinstance(wanted[1], np.ndarray) and rows.ndim == columns.ndim == b.ndim == 2 else None
            db = np.matmul(rows.swapaxes(-1, -2), dy, out=out)
            db = db if out is not None else sum_to(db, columns.shape).reshape(b.shape)
        return da, db

    return np.matmul(a, b), backward
