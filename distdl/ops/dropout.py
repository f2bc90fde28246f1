"""Dropout, drawn for each sample by its key."""

from typing import Any

import numpy as np

from ..core import checks, memory
from ..kernels.dropout import dropout_mask
from .checking import bad_shape, check_float
from .registry import op


@op(reads_inputs=False)
def dropout(x: np.ndarray, *, p: float, key: np.ndarray, epoch: int, samples: np.ndarray) -> Any:
    """Set values to 0 with probability p, and divide the others by 1 - p (N. Srivastava et al., JMLR 2014).

    Args:
        x: rows (n, ...).
        p: within [0, 1].
        key: two words, from `distdl.core.random.key`.
        epoch, samples: which samples the rows are, (n,); equal ones get equal draws.
    """
    check_float("x", x)
    p = checks.real("p", p, 0.0, 1.0)
    samples = np.array(samples, np.int64)
    if samples.shape != x.shape[:1]:
        raise bad_shape("samples", samples, f"{x.shape[:1]}", f"one sample for each row of x {x.shape}")
    mask = memory.empty(x.shape, x.dtype)
    scale = 1 / (1 - p) if p < 1 else 0.0
    rows = mask.reshape(len(mask), mask[:1].size if len(mask) else 0)
    dropout_mask(int(key[0]), int(key[1]), int(epoch), samples, round(p * 2**32), scale, rows)
    y = np.multiply(x, mask, out=memory.empty(x.shape, x.dtype))
    return y, lambda dy: np.multiply(dy, mask, out=memory.empty(mask.shape, mask.dtype))
