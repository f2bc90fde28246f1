"""What functions of `nn` take beside tensors."""

from typing import Any

import numpy as np

from ..autograd import Tensor, tensor


def as_tensor(x: Any) -> Tensor:
    """Return a tensor itself, and anything else as one that needs no gradient."""
    return x if isinstance(x, Tensor) else tensor(x)


def as_values(x: Any) -> np.ndarray:
    """Return the values of a tensor, or an array-like as an array."""
    return x.data if isinstance(x, Tensor) else np.asarray(x)
