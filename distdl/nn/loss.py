"""Losses as modules."""

from typing import Any

import numpy as np

from ..autograd import Tensor
from ..core import checks
from . import functional
from .module import Module


class _Loss(Module):
    """What the losses share."""

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = checks.one_of("reduction", reduction, ("mean", "sum", "none"))

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class CrossEntropyLoss(_Loss):
    """See `functional.cross_entropy`."""

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):
        super().__init__(reduction)
        self.weight = None if weight is None else np.asarray(weight)
        self.ignore_index = checks.integer("ignore_index", ignore_index)
        self.label_smoothing = checks.real("label_smoothing", label_smoothing, 0.0, 1.0)

    def forward(self, logits: Any, labels: Any) -> Tensor:
        return functional.cross_entropy(
            logits, labels, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )


class NLLLoss(_Loss):
    """See `functional.nll_loss`."""

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__(reduction)
        self.weight = None if weight is None else np.asarray(weight)
        self.ignore_index = checks.integer("ignore_index", ignore_index)

    def forward(self, log_probabilities: Any, labels: Any) -> Tensor:
        return functional.nll_loss(log_probabilities, labels, self.weight, self.ignore_index, self.reduction)


class MSELoss(_Loss):
    """See `functional.mse_loss`."""

    def forward(self, x: Any, target: Any) -> Tensor:
        return functional.mse_loss(x, target, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """See `functional.binary_cross_entropy_with_logits`."""

    def __init__(self, weight: Any = None, pos_weight: Any = None, reduction: str = "mean"):
        super().__init__(reduction)
        self.weight = None if weight is None else np.asarray(weight)
        self.pos_weight = None if pos_weight is None else np.asarray(pos_weight)

    def forward(self, logits: Any, target: Any) -> Tensor:
        return functional.binary_cross_entropy_with_logits(logits, target, self.weight, self.pos_weight, self.reduction)
