"""`DistributedOptimizer`: an optimizer and a synchronizer, side by side."""

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import checks, spans
from ..core.errors import ArgumentError
from ..nn import Module
from ..optim import Optimizer
from .compression import Hook
from .finite_guard import FiniteGuard
from .lockstep import Lockstep, OnDrift
from .plan import Auto
from .reproducible import ReproducibleSynchronizer
from .start import compare_options, compare_states
from .synchronizer import GradientSynchronizer

if TYPE_CHECKING:
    from ..comm import Communicator


class DistributedOptimizer:
    """Wraps an optimizer so that it steps with gradients of the global batch, on all ranks alike.

        optimizer = DistributedOptimizer(optim.SGD(model.parameters(), lr=0.1), comm)

    The constructor compares the parameters on all ranks, and gives all rank 0's values.

    Args:
        optimizer: any `Optimizer`; its parameters must not be in another synchronizer.
        comm: the ranks; by default `distdl.world()`.
        model: whose buffers (running statistics) are compared and broadcast too.
        bucket_bytes, overlap: see `GradientSynchronizer`.
        reproducible: the same bits on any number of ranks, see `ReproducibleSynchronizer`; needs `model`, whose
            buffers are part of the promise, and loops over `each_shard`. Nothing overlaps.
        shards: then, into how many a global batch is cut.
        check_every: how many steps lie between two comparisons of the replicas, bit by bit; 0: they are not compared.
        on_drift: where they differ, "stop" ends the job and names the place; "broadcast" goes on with what rank 0 has.
        max_skipped: a step whose gradients are NaN or infinite is left out, on all ranks; so many in a row end the job.
            None: nobody looks.
        compression: sends fewer bytes between nodes, see `GradientSynchronizer`; not in reproducible mode.

    Attributes:
        optimizer: the one given.
        synchronizer: a `GradientSynchronizer` of its parameters.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        comm: "Communicator | None" = None,
        *,
        model: Module | None = None,
        bucket_bytes: int | Auto = "auto",
        overlap: bool | Auto = "auto",
        reproducible: bool = False,
        shards: int = 8,
        check_every: int = 100,
        on_drift: OnDrift = "stop",
        max_skipped: int | None = 10,
        compression: str | Hook | None = None,
    ):
        if not isinstance(optimizer, Optimizer):
            raise checks.bad_type("optimizer", optimizer, "must be a distdl.optim.Optimizer")
        if comm is None:
            from ..comm import world

            comm = world()
        self.optimizer = optimizer
        if reproducible and model is None:
            raise ArgumentError("`model` must be given with reproducible=True: its buffers must be the same bits too")
        if reproducible and compression is not None:
            raise _not_reproducible(compression)
        parameters = optimizer.named_parameters()
        source: Any = parameters if model is None else _WithBuffers(parameters, model)
        self._guard = FiniteGuard(comm, max_skipped)
        lockstep = Lockstep(comm, self._replica, check_every, on_drift)
        self._model = model if reproducible else None
        self.synchronizer = (
            ReproducibleSynchronizer(source, comm, shards, bucket_bytes, lockstep)
            if reproducible
            else GradientSynchronizer(source, comm, bucket_bytes, overlap, lockstep, compression)
        )
        compare_options(comm, optimizer.param_groups)
        compare_states(comm, optimizer)

    def make_reproducible(self, model: Module, shards: int = 8) -> None:
        """Go over to reproducible mode, with the same buckets; nothing to do in it."""
        if not self.is_reproducible:
            before = self.synchronizer
            if before.compression is not None:
                raise _not_reproducible(before.compression)
            before.close()
            source = _WithBuffers(self.named_parameters(), model)
            self._model = model
            self.synchronizer = ReproducibleSynchronizer(
                source, before.comm, shards, before.plan.bucket_bytes, before.lockstep
            )

    def _replica(self) -> Iterator[tuple[str, np.ndarray]]:
        """Name what must be equal on all ranks: options, parameters, optimizer state, in reproducible mode buffers."""
        for i, group in enumerate(self.param_groups):
            for name in sorted(name for name, value in group.items() if type(value) in (int, float)):
                value = np.array(group[name])
                yield f"{name} of group {i}", value
                # Rank 0's may have been written there.
                group[name] = value.item()
        for (name, parameter), state in zip(self.named_parameters(), self.state, strict=True):
            yield name, parameter.data
            for key in sorted(state):
                yield f"{key} of {name}", np.asarray(state[key])
        if self._model is not None:
            yield from self._model.named_buffers()

    @property
    def is_reproducible(self) -> bool:
        """Whether bits are the same on any number of ranks."""
        return isinstance(self.synchronizer, ReproducibleSynchronizer)

    def each_shard(self, *arrays: Any) -> Iterator[Any]:
        """Yield the rows of each of this rank's shards; see `ReproducibleSynchronizer.each_shard`."""
        if not isinstance(self.synchronizer, ReproducibleSynchronizer):
            raise ArgumentError("each_shard() needs DistributedOptimizer(..., model=model, reproducible=True)")
        return self.synchronizer.each_shard(*arrays)

    def close(self) -> None:
        """Give the parameters back: another optimizer may take them, and their gradients stay local."""
        self.synchronizer.close()

    @property
    def comm(self) -> "Communicator":
        """The ranks."""
        return self.synchronizer.comm

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of the optimizer within."""
        return self.optimizer.param_groups

    @property
    def state(self) -> list[dict[str, Any]]:
        """The state of the optimizer within."""
        return self.optimizer.state

    def parameters(self) -> list[Any]:
        """Return the parameters of all groups, in order."""
        return self.optimizer.parameters()

    def named_parameters(self) -> list[tuple[str, Any]]:
        """Return (name, parameter) of all groups, in order."""
        return self.optimizer.named_parameters()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self.optimizer.zero_grad()

    def step(self) -> None:
        """Update the parameters; a rank whose backward() reached none of them meets the others here.

        Raises:
            DivergenceError: too many steps in a row had gradients that are NaN or infinite.
        """
        if self._guard.allows(self.named_parameters()):
            self.optimizer.step()
        else:
            with spans.span("skipped step", "step"):
                self.synchronizer.stepped()

    @property
    def skipped(self) -> int:
        """How many steps were left out so far, since gradients were NaN or infinite."""
        return self._guard.skipped

    def no_sync(self, exact: bool = False) -> AbstractContextManager[None]:
        """Accumulate on this rank only within the block; see `GradientSynchronizer.no_sync`."""
        return self.synchronizer.no_sync(exact)

    @contextlib.contextmanager
    def join(
        self, after_step: Callable[[], Any] | None = None, before_step: Callable[[], Any] | None = None
    ) -> Iterator[None]:
        """Let ranks have different numbers of batches: at the end of the block a rank accompanies the others' steps.

            with optimizer.join():
                for x, y in loader:         # as many batches as this rank has
                    ...
                    optimizer.step()

        A step's gradient is the exact mean over the rows of the ranks that still have some, and all replicas take it.
        Ranks take part in synchronized batch norm too, and at the end get its running statistics (with `model` given)
        from one that had batches longest.

        Args:
            after_step: called after each step that this rank only accompanies: what the loop does to the optimizer
                after a step, a schedule's `step` above all, must happen on all ranks.
            before_step: called before each such step: what the loop does to gradients, clipping above all.

        Raises:
            ArgumentError: in reproducible mode; or a layer's synchronized batch norm is over other ranks.
        """
        if self.is_reproducible:
            raise ArgumentError("join() is not for reproducible mode, where all ranks have the same steps")
        # Layers that nobody needs any more must not count.
        gc.collect()
        comms = list(self.comm.meetings.layers.values())
        if any(comm is not self.comm for comm in comms):
            raise ArgumentError("join() needs synchronized batch norm over the ranks of the gradients, not over others")
        self.comm.has_guests = bool(self.comm.allreduce(len(comms) > 0, "max", label="join()"))
        self.synchronizer.is_joined = True
        begun = self.comm.meetings.count
        try:
            yield
            meetings = self.comm.meetings.count - begun
            is_over = False
            while not is_over:
                had_weight, is_over = self.synchronizer.accompany()
                if had_weight:
                    if before_step is not None:
                        before_step()
                    self.step()
                    if after_step is not None:
                        after_step()
            self.zero_grad()
            if self.comm.has_guests:
                last = int(self.comm.allgather(meetings).argmax())
                for _, buffer in self.synchronizer.named_buffers:
                    self.comm.broadcast(buffer, last)
        finally:
            self.comm.has_guests = self.synchronizer.is_joined = False

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Refuse: the buckets are laid out already."""
        raise ArgumentError(
            "`group` cannot be added to a DistributedOptimizer; add it to the optimizer before wrapping"
        )

    def progress(self) -> dict[str, Any]:
        """Return what beside `state_dict` decides the coming steps, the same on all ranks."""
        return {
            "mean_weight": self.synchronizer.mean_weight,
            "steps": self._guard.step,
            "skipped": self._guard.skipped,
            "in_a_row": self._guard.in_a_row,
        }

    def load_progress(self, progress: Mapping[str, Any]) -> None:
        """Take over what `progress` returned."""
        self.synchronizer.mean_weight = progress["mean_weight"]
        self._guard.step, self._guard.skipped = progress["steps"], progress["skipped"]
        self._guard.in_a_row = progress["in_a_row"]
        if self.synchronizer.lockstep is not None:
            self.synchronizer.lockstep.step = progress["steps"]

    def state_dict(self) -> dict[str, Any]:
        """Return options and state of the optimizer within."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned; all ranks must load the same."""
        self.optimizer.load_state_dict(state)


def _not_reproducible(compression: Any) -> ArgumentError:
    return checks.bad_value(
        "compression",
        getattr(compression, "name", compression),
        "is not for reproducible mode: what is sent would depend on how many nodes there are",
    )


class _WithBuffers:
    """An optimizer's parameters with a model's buffers, under the model's names where it has them."""

    def __init__(self, parameters: list[tuple[str, Any]], model: Module):
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._parameters = [(names.get(id(parameter), name), parameter) for name, parameter in parameters]
        self._model = model

    def named_parameters(self) -> list[tuple[str, Any]]:
        return self._parameters

    def named_buffers(self) -> list[tuple[str, Any]]:
        return list(self._model.named_buffers())
