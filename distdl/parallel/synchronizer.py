"""`GradientSynchronizer`: after backward, every rank holds the gradient of the global batch.

Each rank's gradient is a mean over its own rows (or class weights) w_r; the global mean is

    g = sum_r w_r g_r / sum_r w_r

so a rank multiplies by w_r, the sums of gradients and of weights travel in one reduction, and all
divide. Ranks scale by w_r / (mean weight of the last step), which all know: where batches are
equal the factor is 1, and the first multiplication is left out. The reduction itself divides by a
power of two, which loses no bits; where that is the number of ranks, the division is left out too.

A bucket whose gradients are final may be reduced while the backward pass computes others ("overlap").
Buckets are started in the same order everywhere, and each element is summed in an order that depends
on the ranks only: neither overlap nor the size of buckets changes a bit.
"""

import contextlib
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import Parameter
from ..core import checks, settings, spans
from ..core.errors import ArgumentError, DistdlError
from .background import Background
from .bucket import Bucket, Earlier, group
from .compression import Hook, make_hook
from .compression.over_nodes import over_nodes
from .lockstep import Lockstep
from .plan import Auto, choose
from .profiler import profiled
from .start import broadcast_start
from .trial import trial_of

if TYPE_CHECKING:
    from ..comm import Communicator

_orders = itertools.count()

_WEIGHTS, _AT_LAST = 0.5, 0.25
"""What is called to guests: the weights of a micro-batch are added up; all that work have done the last of a step."""


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
        overlap: whether buckets are reduced while backward() still runs; "auto", as for `bucket_bytes`:
            what `DISTDL_OVERLAP` and `DISTDL_BUCKET_BYTES` say, else what a short measurement says.
            Rank 0 decides for all.
        lockstep: compares the replicas now and then; None: nobody does.
        compression: sends fewer bytes between nodes: "bf16", "fp16", "powersgd" or "topk", or a `compression.Hook`.
            Within a node, and on one alone, gradients are summed exactly. Buckets are reduced after backward() then,
            unless `overlap` says otherwise.

    Attributes:
        plan: what was decided.
        gradient_bytes: of all parameters.
        mean_weight: of the ranks in the last step, by which the next is scaled.
        is_joined: whether ranks without batches accompany this one, step by step.
        reductions: how many buckets have been reduced so far.
        seconds_waited: how long this rank has waited for reductions beside backward().
        shard: which shard of the batch is being worked on; always 0 where batches have none.
        asks_to_leave: whether this rank asks all to leave after a step; it travels with the gradients.
        is_leaving: whether any rank had asked in the last reduction, the same on all ranks.

    Raises:
        ArgumentError: with overlap, for an MPI library that does not let threads talk; with compression, for
            parameters that are not of float32.
        PeerError: the ranks hold different models.
    """

    def __init__(
        self,
        parameters: Any,
        comm: "Communicator",
        bucket_bytes: int | Auto = "auto",
        overlap: bool | Auto = "auto",
        lockstep: Lockstep | None = None,
        compression: str | Hook | None = None,
    ):
        named = _named(parameters)
        self.named_buffers = list(parameters.named_buffers()) if hasattr(parameters, "named_buffers") else []
        self.comm = comm
        self.lockstep = lockstep
        self.order = next(_orders)
        self.named_parameters = named
        self.reductions = 0
        self.seconds_waited = 0.0
        self.shard: int | None = 0
        self._passes = 0
        self._meetings = comm.meetings.count
        self.is_joined = self.asks_to_leave = self.is_leaving = False
        self.mean_weight = 1.0
        self._weight = 0.0
        self._due = True
        self._local = False
        self._exact = self._is_done = self._is_pending = False
        self._earlier: list[Earlier] = []
        broadcast_start(comm, named, self.named_buffers)
        self._compressed = over_nodes(comm, make_hook(compression), named)
        if self._compressed is not None and overlap == "auto" and settings.overlap() is None:
            # What was measured is of whole gradients; few large buckets compress best.
            overlap = False
        self.gradient_bytes = sum(parameter.data.nbytes for _, parameter in named)
        self.plan = choose(comm, self.gradient_bytes, bucket_bytes, overlap)
        groups = group([parameter for _, parameter in named], self.plan.bucket_bytes)
        self._missing = [0] * len(groups)
        self._started = 0
        self._background: Background | None = None
        # A last bucket, an only one above all, is full when the pass is over.
        if self.plan.overlap and comm.size > 1 and len(groups) > 1:
            self._background = Background()
            comm = comm.beside()
            if self._compressed is not None:
                self._compressed = self._compressed.beside()
        self._reducing = comm
        self.buckets = [Bucket(parameters, self._zeros) for parameters in groups]
        if self._compressed is not None:
            self._compressed.prepare(self.buckets, {id(parameter): name for name, parameter in named})
        self._own_parameters()
        self._trial = trial_of(self.comm)

    def _zeros(self, size: int, dtype: np.dtype) -> np.ndarray:
        comm = self._reducing if self._compressed is None else self._compressed.node
        return comm.zeros(size, dtype)

    def _own_parameters(self) -> None:
        self._places: dict[int, int] = {}
        owner = profiled(self)
        for i, bucket in enumerate(self.buckets):
            for parameter, view in zip(bucket.parameters, bucket.views, strict=True):
                if parameter._owner is not None:
                    raise checks.bad_value(
                        "parameters",
                        parameter.name,
                        "has a synchronizer already: close() it, or the trainer or distributed optimizer that holds it",
                    )
                parameter._owner = owner
                parameter._buffer = view
                self._places[id(parameter)] = i

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
                result is the sum of global means whatever the shares. All ranks enter the block; one
                that has fewer micro-batches than the others has no part in the last ones.
        """
        before = self._local
        self._local = True
        self._exact = self._exact or exact
        try:
            yield
        finally:
            self._local = before

    def begin_backward(self, weight: float | None) -> float:
        """Make room for the gradients of a backward(), and return the factor for its seed.

        What earlier backwards have reduced since the last step is put aside, to be added afterwards.
        """
        self._is_pending = True
        if self._trial is not None:
            self._trial.add(clear_weight(weight))
        if self.comm.size == 1:
            return 1.0
        self._check_whole()
        weight = clear_weight(weight)
        if not self._has_gradients():
            self._weight = 0.0
        elif not self._due:
            if self.is_joined:
                raise DistdlError(
                    "within join() a step has one reduction: run all backward() but the last in no_sync()"
                )
            self._earlier = [bucket.take() for bucket in self.buckets]
        self._due = True
        if self._is_exact:
            total = self._meet(weight, is_last=not self._local)
            return weight * self.comm.size / total if total > 0 else 0.0
        self._weight += weight
        return 1.0

    def _meet(self, weight: float, is_last: bool) -> float:
        """Return the weight of an exact micro-batch over all ranks; after its last a rank waits for the others'."""
        # Gradients are scaled to the micro-batch's global weight already: all ranks count alike in the reduction.
        self._weight = 1.0
        if self.comm.has_guests:
            self.comm.call_guests(_WEIGHTS)
        total, finished = self._add_weights(weight, is_last)
        # Where ranks may be guests they wait for the others' last after their own backward pass, see `_be_guest`.
        while is_last and finished < self.comm.size and not self.comm.has_guests:
            finished = self._add_weights(0.0, True)[1]
        return total

    def _be_guest(self, what: float) -> float:
        """Take part in the others' micro-batches until nobody works any more; return what is called then."""
        while (called := self.comm.be_guest(what)) == _WEIGHTS:
            self._add_weights(0.0, is_last=True)
        return called

    def _wait_for_others(self) -> None:
        """Before gradients are reduced, take part in further micro-batches of ranks that have some."""
        if self.comm.has_guests:
            self._be_guest(_AT_LAST)

    def _add_weights(self, weight: float, is_last: bool) -> tuple[float, float]:
        total, finished = self.comm.allreduce([weight, float(is_last)], label="weights of a micro-batch")
        return float(total), float(finished)

    @property
    def _is_exact(self) -> bool:
        """Whether each micro-batch's weight is reduced. Layers that meet in it mix gradients of its ranks."""
        return self._exact or self.comm.meetings.count != self._meetings

    @property
    def is_watching(self) -> bool:
        """Whether buckets are to be reduced before the pass that has begun is over."""
        return self._background is not None and not self._local

    def expect(self, leaves: Sequence[Parameter]) -> None:
        """Start buckets that the pass does not reach, and wait for the others to fill."""
        self._missing = [0] * len(self.buckets)
        for leaf in leaves:
            self._missing[self._places[id(leaf)]] += 1
        self._start_full()

    def written(self, leaf: Parameter) -> None:
        """Count a gradient as final, and start the buckets that are full now."""
        self._missing[self._places[id(leaf)]] -= 1
        self._start_full()

    def end_backward(self) -> None:
        """Reduce the gradients that backward has left, unless within `no_sync()`."""
        if self.comm.size > 1 and not self._local:
            self._wait_for_others()
            self._reduce()

    def settle(self) -> None:
        """Reduce now if no backward() has since the last step: this rank had no part in it.

        Where no rank had one, all keep the gradients that they have.
        """
        if not self._due or self.comm.size == 1:
            return
        self._check_whole()
        kept = [bucket.copy() for bucket in self.buckets]
        if self.comm.has_guests:
            # What others reduce is scaled already, and all ranks count alike.
            self._wait_for_others()
            self._weight = 1.0
        elif self._is_exact:
            self._meet(0.0, is_last=True)
        if not self._reduce():
            for bucket, earlier in zip(self.buckets, kept, strict=True):
                bucket.restore(earlier)

    def accompany(self) -> tuple[bool, bool]:
        """Take part in a step of the others, without a batch of one's own, but with what `no_sync()` has left here.

        Returns:
            Whether any rank had a weight in it, and whether all ranks only accompany.
        """
        if self.comm.size == 1:
            return self._is_pending, True
        if self._exact:
            raise DistdlError("join() and no_sync(exact=True) do not go together: use no_sync()")
        self._check_whole()
        if not self._weight:
            for bucket in self.buckets:
                bucket.forget()
        if self.comm.has_guests:
            # What was accumulated here is scaled already.
            if self._be_guest(_AT_LAST if self._weight else 0.0) != _AT_LAST:
                return False, True
            self._weight = 1.0
            return self._reduce(), False
        self._is_done = True
        had_weight = self._reduce()
        self._is_done = False
        # Shrunk as all else there.
        return had_weight, round(float(self.buckets[0].done[0]) / shrinking(self.comm.size)) == self.comm.size

    def stepped(self) -> None:
        """Take note that the optimizer has used the gradients."""
        self.comm.clock += 1
        if self.comm.size == 1:
            self.is_leaving = self.asks_to_leave
        self._passes = 0
        self._due = True
        self._is_pending = False
        if self._trial is not None:
            self._trial.stepped(self.plan, self.gradient_bytes)

    @property
    def compression(self) -> Hook | None:
        """What compresses gradients between nodes; None where nothing does, as on one node."""
        return None if self._compressed is None else self._compressed.hook

    def compression_state(self) -> dict[str, np.ndarray]:
        """Return what the compression hook keeps from step to step, on the first rank of each node. A collective.

        What the ranks owe each other is added up, and each goes on with an equal part.
        """
        return {} if self._compressed is None else self._compressed.state()

    def load_compression_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `compression_state` returned on rank 0, on any number of ranks; all give the same."""
        if self._compressed is not None:
            self._compressed.load_state(state)

    def _has_gradients(self) -> bool:
        return any(parameter.grad is not None for bucket in self.buckets for parameter in bucket.parameters)

    def _check_whole(self) -> None:
        if self._started:
            raise DistdlError(
                "an earlier backward() failed while its gradients were being reduced, so the ranks are out of step: "
                "let such an error end the job, or use overlap=False to go on after it"
            )

    def _start_full(self) -> None:
        while self._started < len(self.buckets) and not self._missing[self._started]:
            self._start()

    def _start(self) -> None:
        """Start to reduce the next bucket."""
        i = self._started
        self._started += 1
        bucket = self.buckets[i]
        bucket.collect()
        bucket.weight = self._weight
        bucket.done[0], bucket.leaving[0] = self._is_done, self.asks_to_leave
        if i == 0 and self.lockstep is not None:
            bucket.numbers[:] = self.lockstep.numbers()
        bucket.scale(self._weight / self.mean_weight)
        comm = self._reducing
        # A rank that has reduced once more, or less, than the others since the last step must not meet them.
        label = f"bucket {i}, reduction {self._passes} of step {self.comm.clock}"
        scale, compressed = shrinking(comm.size), self._compressed

        def reduce() -> None:
            if compressed is None:
                comm.allreduce(bucket.flat, scale=scale, label=label)
            else:
                compressed.reduce(i, comm, self.mean_weight, scale, label)

        if self._background is None:
            reduce()
        else:
            self._background.start(reduce)

    def _reduce(self) -> bool:
        """Reduce all buckets, and return whether any rank had a part in them."""
        while self._started < len(self.buckets):
            self._start()
        if self._background is not None:
            start = time.perf_counter()
            with spans.span("wait for buckets", "wait"):
                self._background.wait()
            self.seconds_waited += time.perf_counter() - start
        return self._finish(self.comm.size)

    def _finish(self, parts: int) -> bool:
        """Make gradients of the sums over so many parts, which are shrunk, and return whether any part had a weight."""
        self.reductions += len(self.buckets)
        self._passes += 1
        shrunk = shrinking(parts)
        if self.lockstep is not None:
            self.lockstep.judge(self.buckets[0].numbers / shrunk)
        total = self.buckets[0].weight / shrunk
        self.is_leaving = bool(self.buckets[0].leaving[0] > 0)
        for i, bucket in enumerate(self.buckets):
            if self._compressed is None:
                bucket.scale(self.mean_weight / (total * shrunk) if total > 0 else 0.0)
            bucket.release()
            if self._earlier:
                bucket.add(self._earlier[i])
        if total > 0:
            self.mean_weight = total / parts
        self._earlier = []
        self._started = 0
        self._weight, self._exact, self._due = 0.0, False, False
        self._meetings = self.comm.meetings.count
        return total > 0


def shrinking(parts: int) -> float:
    """Return the power of two that is nearest to 1 / parts from below."""
    return float(0.5 ** (parts - 1).bit_length())


def clear_weight(weight: float | None) -> float:
    """Return how much a loss counts, or raise if that is unclear; None counts like any other."""
    if weight is not None and not math.isfinite(weight):
        raise ArgumentError(
            "the loss adds means over different numbers of rows, so its weight among the ranks is unclear: "
            "say it with loss.backward(weight=rows)"
        )
    return 1.0 if weight is None else weight


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
