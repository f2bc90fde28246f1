"""`FiniteGuard`: steps whose gradients are not finite are left out, on all ranks alike."""

import sys
from typing import TYPE_CHECKING

from ..autograd import Parameter, settle_gradients
from ..core import checks
from ..core.errors import DivergenceError
from ..kernels.finite import is_finite

if TYPE_CHECKING:
    from ..comm import Communicator


class FiniteGuard:
    """Looks at the gradients before a step.

    A NaN or an infinity on one rank is one in the sum over all: every rank sees the same gradients, and decides alike
    without a message.

    Args:
        comm: the ranks; rank 0 tells.
        limit: after so many steps in a row the training has diverged; None: nobody looks.

    Attributes:
        skipped: how many steps have been left out so far.
        in_a_row: how many of them were the last ones.
        step: how many there were, left out or not.
    """

    def __init__(self, comm: "Communicator", limit: int | None):
        self.comm = comm
        self.limit = None if limit is None else checks.integer("max_skipped", limit, 1)
        self.skipped = self.in_a_row = self.step = 0

    def allows(self, named_parameters: list[tuple[str, Parameter]]) -> bool:
        """Say whether to take the next step.

        Raises:
            DivergenceError: this is the last of too many in a row.
        """
        self.step += 1
        if self.limit is None:
            return True
        settle_gradients(parameter for _, parameter in named_parameters)
        bad = next((name for name, p in named_parameters if p.grad is not None and not is_finite(p.grad)), None)
        if bad is None:
            self.in_a_row = 0
            return True
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row >= self.limit:
            raise DivergenceError(
                f"{self.limit} steps in a row had gradients that are NaN or infinite, step {self.step} in {bad!r}: "
                "the training has diverged; a lower learning rate, warm-up or clipping may help"
            )
        if self.comm.rank == 0:
            print(
                f"distdl: step {self.step} is left out on all ranks: the gradient of {bad!r} is NaN or infinite "
                f"({self.in_a_row} in a row, {self.skipped} so far)",
                file=sys.stderr,
                flush=True,
            )
        return False
