"""Dropout, keyed by sample."""

from typing import Any

from ..autograd import Tensor
from ..core import checks, random
from . import functional
from .module import Module


class Dropout(Module):
    """In training, set values to 0 with probability p and scale the others by 1 / (1 - p) (N. Srivastava et al. 2014).

    What is dropped depends on seed, layer, epoch and sample, never on the rank: the data loader says
    which samples the rows are. Without it rows count as samples, and each call draws anew.

    Args:
        p: probability of dropping, within [0, 1].
    """

    def __init__(self, p: float = 0.5):
        super().__init__()
        self.p = checks.real("p", p, 0.0, 1.0)
        self._stream = random.next_stream()
        self._calls = random.Calls()

    def forward(self, x: Any) -> Tensor:
        if not self.training or self.p == 0:
            return x  # type: ignore[no-any-return]
        key = random.key("dropout", self._stream, self._calls.next())
        return functional.dropout_keyed(x, self.p, key)

    def extra_repr(self) -> str:
        return f"{self.p:g}"
