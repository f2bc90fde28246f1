"""`GradientSynchronizer`: after backward, every rank holds the gradient of the global batch.

Each rank's gradient is a mean over its own rows (or class weights) w_r; the global mean is

    g = sum_r w_r g_r / sum_r w_r

so a rank multiplies by w_r, the sums of gradients and of weights travel in one reduction, and all
divide. Ranks scale by w_r / (mean weight of the last step), which all know: where batches are
equal the factor is 1, and the first multiplication is left out.
"""

import contextlib
import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..autograd import Parameter
from ..core import checks, spans
from ..core.errors import ArgumentError
from .bucket import Bucket, Earlier, make_buckets
from .start import broadcast_start

if TYPE_CHECKING:
    from ..comm import Communicator

_orders = itertools.count()


class GradientSynchronizer:
    """Reduces the gradients of parameters over the ranks at the end of every backward().

    The constructor compares the parameters (and buffers) on all ranks and gives all rank 0's values.
    From then on, when backward() returns, `.grad` is the gradient of the global batch, the same bits
    on every rank. All ranks must call backward() equally often; a rank whose loss reaches none of the
    parameters takes part in `Optimizer.step()`, with weight 0.

    Args:
        parameters: parameters, (name, parameter) pairs, or a `Module` (whose buffers join the start).
        comm: the ranks; gradients stay local where there is one only.
        bucket_bytes: size at which a bucket is full.

    Raises:
        PeerError: the ranks hold different models.
    """

    def __init__(self, parameters: Any, comm: "Communicator", bucket_bytes: int = 25 * 2**20):
        checks.integer("bucket_bytes", bucket_bytes, 1)
        named = _named(parameters)
        buffers = list(parameters.named_buffers()) if hasattr(parameters, "named_buffers") else []
        self.comm = comm
        self.order = next(_orders)
        self.named_parameters = named
        self.reductions = 0
        self._mean_weight = 1.0
        self._weight = 0.0
        self._due = True
        self._local = self._exact_here = False
        self._exact = False
        self._earlier: list[Earlier] = []
        broadcast_start(comm, named, buffers)
        self.buckets: list[Bucket] = make_buckets([parameter for _, parameter in named], bucket_bytes)
        for bucket in self.buckets:
            for parameter, view in zip(bucket.parameters, bucket.views, strict=True):
                if parameter._owner is not None:
                    raise checks.bad_value("parameters", parameter.name, "has a synchronizer already; close() that one")
                parameter._owner = self
                parameter._buffer = view

    def close(self) -> None:
        """Give the parameters back: their gradients stay local from now on."""
        for bucket in self.buckets:
            for parameter in bucket.parameters:
                parameter._owner = parameter._buffer = None

    @contextlib.contextmanager
    def no_sync(self, exact: bool = False) -> Iterator[None]:
        """Within the block backward() adds to `.grad` on this rank only; the next one outside reduces the whole.

        Over k backwards a rank's gradients are added up, and count by the sum of its weights. That is
        the sum of the k global means if each rank has the same share of every micro-batch.

        Args:
            exact: reduce the weight of every micro-batch (one small collective each), so that the
                result is the sum of global means whatever the shares.
        """
        before = self._local, self._exact_here
        self._local, self._exact_here = True, exact
        try:
            yield
        finally:
            self._local, self._exact_here = before

    def begin_backward(self, weight: float | None) -> float:
        """Make room for the gradients of a backward(), and return the factor for its seed.

        What earlier backwards have reduced since the last step is put aside, to be added afterwards.
        """
        if self.comm.size == 1:
            return 1.0
        weight = 1.0 if weight is None else weight
        if not math.isfinite(weight):
            raise ArgumentError(
                "the loss adds means over different numbers of rows, so its weight among the ranks is unclear: "
                "say it with loss.backward(weight=rows)"
            )
        if all(parameter.grad is None for bucket in self.buckets for parameter in bucket.parameters):
            self._weight, self._exact = 0.0, False
        elif not self._due:
            self._earlier = [bucket.take() for bucket in self.buckets]
        self._due = True
        self._exact = self._exact or self._exact_here
        if not self._exact:
            self._weight += weight
            return 1.0
        # Scaled to the micro-batch's global weight already, all ranks count alike in the reduction.
        self._weight = 1.0
        total = self.comm.allreduce(weight)
        return weight * self.comm.size / total if total > 0 else 0.0

    def end_backward(self) -> None:
        """Reduce the gradients that backward has left, unless within `no_sync()`."""
        if self.comm.size > 1 and not self._local:
            self._reduce()

    def settle(self) -> None:
        """Reduce now if no backward() has since the last step: this rank had no part in it."""
        if self._due and self.comm.size > 1:
            self._reduce()

    def stepped(self) -> None:
        """Take note that the optimizer has used the gradients."""
        self._due = True

    def _reduce(self) -> None:
        for i, bucket in enumerate(self.buckets):
            bucket.collect()
            bucket.weight = self._weight
            bucket.scale(self._weight / self._mean_weight)
            with spans.span(f"bucket {i}", "reduce"):
                self.comm.allreduce(bucket.flat)
            self.reductions += 1
        total = self.buckets[0].weight
        for i, bucket in enumerate(self.buckets):
            bucket.scale(self._mean_weight / total if total > 0 else 0.0)
            bucket.release()
            if self._earlier:
                bucket.add(self._earlier[i])
        if total > 0:
            self._mean_weight = total / self.comm.size
        self._earlier = []
        self._weight, self._exact, self._due = 0.0, False, False


def _named(parameters: Any) -> list[tuple[str, Parameter]]:
    if hasattr(parameters, "named_parameters"):
        return list(parameters.named_parameters())
    named = [
        item if isinstance(item, tuple) else (getattr(item, "name", "") or f"parameter {i}", item)
        for i, item in enumerate(parameters)
    ]
    for name, parameter in named:
        if not isinstance(parameter, Parameter):
            raise checks.bad_type("parameters", name, f"must hold Parameters, not {type(parameter).__name__}")
    if not named:
        raise checks.bad_value("parameters", [], "must not be empty")
    return named
