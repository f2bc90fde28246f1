"""What the parts of a batch give is added up in their order, whoever computed them."""

import numpy as np


def add_parts(parts: list[tuple[np.ndarray | None, np.ndarray]]) -> np.ndarray:
    """Add the parts' gradients of weights to the first part's; return the sum of those of the bias."""
    first, total = parts[0]
    for dw, db in parts[1:]:
        if first is not None and dw is not None:
            first += dw
        total = total + db
    return total
