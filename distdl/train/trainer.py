"""`Trainer`: the loop that most people should not have to write."""

from __future__ import annotations

import math
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import Tensor, no_grad, tensor
from ..core import checks, spans
from ..core.errors import PeerError
from ..core.random import get_seed, named_batch
from ..data import DataLoader, GlobalBatchSampler
from ..kernels.conditions import conditions
from ..nn import Module
from ..optim import Optimizer
from ..parallel import Balance, DistributedOptimizer, ReproducibleSynchronizer
from ..parallel import trace as parallel_trace
from ..parallel.buffers import synchronize_buffers as average_buffers
from ..parallel.reproducible import cut_batch
from ..parallel.start import disagreement
from ..version import __version__
from .callbacks import Callback, Record
from .metrics import Loss, Meter, Metric, default_metrics
from .progress import Progress
from .resume import Checkpoints, OnError
from .run import JsonLog, LearningCurve, SaveWeights

if TYPE_CHECKING:
    from ..comm import Communicator


class Trainer:
    """Trains a model in lockstep on all ranks, and evaluates it.

    Args:
        model: what is trained.
        optimizer: a plain one is wrapped in a `DistributedOptimizer`.
        loss: `loss(outputs, targets)` gives a tensor of one value, a mean over rows.
        comm: the ranks; by default those of the distributed optimizer, else `distdl.world()`.
        callbacks: called in this order, after the trainer's own.
        reproducible: train to the same bits on any number of ranks, and any number of threads.
        shards: then, into how many parts a global batch is cut: a power of two, and at least the number of ranks.
        metrics: measured beside the loss; by default the accuracy, if outputs and targets are those of classes.
        run: name of the directory below `runs/` (or a path) that gets log, weights and learning curve; None: no files.
        progress: show progress on rank 0.

    Attributes:
        history: the record of every epoch of the last fit, the same on all ranks.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer | DistributedOptimizer,
        loss: Callable[[Tensor, Any], Tensor],
        comm: Communicator | None = None,
        callbacks: Sequence[Callback] = (),
        reproducible: bool = False,
        *,
        metrics: Sequence[Metric] | None = None,
        run: str | Path | None = None,
        progress: bool = True,
        shards: int = 8,
    ):
        if not isinstance(model, Module):
            raise checks.bad_type("model", model, "must be a distdl.nn.Module")
        if not callable(loss):
            raise checks.bad_type("loss", loss, "must be a function of outputs and targets")
        if isinstance(optimizer, DistributedOptimizer):
            if comm is not None and comm is not optimizer.comm:
                raise checks.bad_value("comm", comm, "is not the communicator of the distributed optimizer")
            self.optimizer = optimizer
            if reproducible:
                optimizer.make_reproducible(model, shards)
        else:
            self.optimizer = DistributedOptimizer(
                optimizer, comm, model=model, reproducible=reproducible, shards=shards
            )
        known = {id(parameter) for parameter in self.optimizer.parameters()}
        if not any(id(parameter) in known for parameter in model.parameters()):
            raise checks.bad_value("optimizer", type(optimizer).__name__, "holds none of the parameters of `model`")
        self.model = model
        self.loss = loss
        self.comm = self.optimizer.comm
        self.metrics: list[Metric] = [Loss(), *(default_metrics(loss) if metrics is None else metrics)]
        own: list[Callback] = [Progress()] if progress else []
        if run is not None:
            directory = Path(run) if isinstance(run, Path) or "/" in run else Path("runs") / run
            own += [JsonLog(directory), SaveWeights(directory), LearningCurve(directory)]
        self.callbacks = [*own, *callbacks]
        self.history: list[Record] = []
        self.epoch = self.epochs = self.step = self.step_in_epoch = 0
        self.steps_per_epoch = self.rows_per_epoch = self.batch_size = 0
        self._stopped = False
        self._shares: list[float] = []
        self._seed = 0
        self._checkpoints: Checkpoints | None = None

    def fit(
        self,
        data: Any,
        epochs: int = 1,
        batch_size: int | None = None,
        *,
        validation: Any = None,
        transform: Callable[[Any], Any] | None = None,
        seed: int | None = None,
        shares: Sequence[float] = (),
        trace: str | Path | None = None,
        checkpoints: str | Path | None = None,
        checkpoint_every: int | None = None,
        keep: int = 3,
        resume: str | Path | None = None,
        on_checkpoint_error: OnError = "stop",
    ) -> list[Record]:
        """Train for some epochs.

        Args:
            data: a data set, which is shuffled and shared out among the ranks; or this rank's loader.
            epochs: passes over the data.
            batch_size: rows of the global batch, over all ranks; for a data set.
            validation: a data set to evaluate after each epoch.
            transform: applied to the inputs of each batch of a data set (augmentation).
            seed: of the shuffling; by default the one of `distdl.manual_seed`.
            shares: how much of each global batch each rank gets, see `GlobalBatchSampler`; for a data set.
            checkpoints: directory for checkpoints, taken while training goes on; one job at a time uses it.
            checkpoint_every: steps between two; by default one at the end of each epoch.
            keep: how many of the newest stay.
            resume: "auto" goes on from the newest whole checkpoint in `checkpoints`, if there is one; a path from that
                one. Model, data, optimizer, callbacks and batch size must be as they were; ranks may be others.
            on_checkpoint_error: "stop" ends the fit when a checkpoint cannot be written, "warn" goes on without.
            trace: file for a timeline of all ranks, see `distdl.parallel.trace`; what became of the time is printed.

        Returns:
            A record an epoch: epoch, step, loss, metrics, validation_..., lr, seconds, samples_per_second; with
            several ranks slowest_rank, and by which share of the median rank's time it computes longer.
        """
        self.epochs = checks.integer("epochs", epochs, 1)
        seed = self.comm.broadcast_object(get_seed() if seed is None else seed)
        self._seed = seed
        loader = self._loader(data, batch_size, transform, seed, shares)
        self._compare_plans()
        self.history, self._stopped, self.step, self.epoch, self.step_in_epoch = [], False, 0, 0, 0
        self._checkpoints = None
        if checkpoints is not None:
            self._checkpoints = Checkpoints(self, checkpoints, checkpoint_every, keep, on_checkpoint_error)
        elif resume is not None or checkpoint_every is not None:
            raise checks.bad_value(
                "checkpoints", None, "must be a directory where `resume` or `checkpoint_every` is given"
            )
        try:
            resumed = self._resume(resume, loader)
            if trace is None:
                self._fit(loader, validation, resumed)
            else:
                with parallel_trace(trace, self.comm) as timeline:
                    self._fit(loader, validation, resumed)
                self.comm.print(timeline.summary(), file=sys.stderr)
        finally:
            if self._checkpoints is not None:
                self._checkpoints.close()
        return self.history

    def _resume(self, resume: str | Path | None, loader: Any) -> Meter | None:
        """Go on from a checkpoint, and return the meter of the epoch that it lies within, if it does."""
        found = self._checkpoints.resume(resume, loader) if self._checkpoints and resume is not None else None
        if found is None:
            return None
        state, sums = found
        where = f"in epoch {self.epoch + 1} of {self.epochs}" if self.epoch < self.epochs else "which was the last"
        self.comm.print(f"distdl: going on after step {self.step}, {where}", file=sys.stderr)
        if not state["is_within"]:
            return None
        meter = Meter(self.metrics, self.comm, self._shards)
        synchronizer = self.optimizer.synchronizer
        if isinstance(synchronizer, ReproducibleSynchronizer):
            meter.load_state(sums, state["metrics"], synchronizer.mine)
        else:
            meter.load_state(sums, state["metrics"], [0] if self.comm.rank == 0 else [])
        return meter

    def _fit(self, loader: Any, validation: Any, resumed: Meter | None) -> None:
        self._call("on_fit_start")
        for epoch in range(self.epoch, self.epochs):
            self.epoch = epoch
            record = self._epoch(loader, resumed)
            resumed = None
            with spans.span("evaluation and callbacks", "between"):
                if validation is not None:
                    results = self.evaluate(validation, self.batch_size or 256)
                    record |= {f"validation_{name}": value for name, value in results.items()}
                self.history.append(record)
                self._call("on_epoch_end", record)
            is_over = bool(self.comm.allreduce(int(self._stopped), "max"))
            if self._checkpoints is not None:
                # The next epoch has not begun; one that is stopped has no next.
                self.epoch = self.epochs if is_over else epoch + 1
                self._checkpoints.save(None, loader)
                self.epoch = epoch
            if is_over:
                break
        if self._checkpoints is not None:
            self._checkpoints.finish()
        self._call("on_fit_end")

    def evaluate(self, data: Any, batch_size: int = 256) -> dict[str, Any]:
        """Measure loss and metrics; every sample of a data set counts once over all ranks.

        Args:
            data: a data set, or this rank's loader.
            batch_size: rows of the global batch.

        Returns:
            The value of each metric, the same on all ranks.
        """
        loader = data
        _check_data(data)
        if not _is_loader(data):
            sampler = GlobalBatchSampler(
                len(data), batch_size, self.comm.rank, self.comm.size, shuffle=False, shards=self._shards
            )
            loader = DataLoader(data, batch_sampler=sampler)
        self.synchronize_buffers()
        meter = Meter(self.metrics, self.comm, self._shards)
        was_training = self.model.training
        self.model.eval()
        try:
            with no_grad():
                for batch in loader:
                    for shard, x, y in self._parts(*batch):
                        outputs = self._outputs(x)
                        _measure(meter, outputs, y, self._loss(outputs, y), shard)
        finally:
            self.model.train(was_training)
        return meter.results()

    def close(self) -> None:
        """Give the model's parameters back: another trainer may take them."""
        self.optimizer.close()

    def stop(self) -> None:
        """End the fit after this epoch, on all ranks, whichever call it."""
        self._stopped = True

    def describe(self) -> Record:
        """Return what the log says of the run before its first epoch."""
        return {
            "distdl": __version__,
            "python": platform.python_version(),
            "ranks": self.comm.size,
            "parameters": sum(parameter.size for parameter in self.model.parameters()),
            "epochs": self.epochs,
            "batch_size": self.batch_size or None,
            "seed": get_seed(),
            **({"shards": self._shards, **conditions()} if self._shards else {}),
        }

    def plan(self) -> dict[str, Any]:
        """Return what says which samples a step takes, on any number of ranks."""
        return {
            "steps": self.steps_per_epoch,
            "rows": self.rows_per_epoch,
            "batch_size": self.batch_size,
            "shards": self._shards,
            "seed": self._seed,
        }

    def rows_of_step(self, rows: int) -> int:
        """Return how many rows the step had over all ranks, of which this rank had `rows`."""
        if not self.batch_size:
            return rows * self.comm.size
        return min(self.batch_size, self.rows_per_epoch - (self.step_in_epoch - 1) * self.batch_size)

    def _loader(self, data: Any, batch_size: int | None, transform: Any, seed: int, shares: Sequence[float]) -> Any:
        _check_data(data)
        self._shares = [float(share) for share in shares]
        if _is_loader(data):
            given = {"batch_size": batch_size, "transform": transform, "shares": self._shares or None}
            for name, value in given.items():
                if value is not None:
                    raise checks.bad_value(name, value, "belongs to the loader that is given")
            self.batch_size = 0
            self.steps_per_epoch = len(data) if hasattr(data, "__len__") else 0
            self.rows_per_epoch = 0
            return data
        if batch_size is None:
            raise checks.bad_value("batch_size", batch_size, "must be given with a data set: rows of the global batch")
        self.batch_size = checks.integer("batch_size", batch_size, 1)
        sampler = GlobalBatchSampler(
            len(data),
            self.batch_size,
            self.comm.rank,
            self.comm.size,
            shuffle=True,
            seed=seed,
            shards=self._shards,
            shares=shares,
        )
        self.steps_per_epoch, self.rows_per_epoch = len(sampler), len(data)
        return DataLoader(data, batch_sampler=sampler, transform=transform)

    def _compare_plans(self) -> None:
        """Raise unless all ranks will take the same steps: else some would wait for the others for ever."""
        apart = disagreement(self.comm, {**self.plan(), "shares": self._shares})
        if apart is not None:
            raise PeerError(
                f"all ranks must take the same steps: rank 0 has {apart.name} = {apart.first} an epoch, "
                f"rank {apart.rank} has {apart.other}"
            )

    def _epoch(self, loader: Any, meter: Meter | None) -> Record:
        if meter is None:
            self.step_in_epoch = 0
            meter = Meter(self.metrics, self.comm, self._shards)
        self.model.train()
        self._call("on_epoch_start")
        balance = Balance(self.optimizer.synchronizer)
        start = time.perf_counter()
        rows = 0
        for x, y in loader:
            loss = self._step(meter, x, y)
            rows += len(x)
            self._call("on_step_end", loss, len(x))
            if self._checkpoints is not None:
                self._checkpoints.after_step(meter, loader)
        results = meter.results()
        shares = balance.measure()
        self.synchronize_buffers()
        # One rank's clock, so that the record is the same everywhere.
        seconds = self.comm.broadcast(time.perf_counter() - start)
        rows = self.rows_per_epoch or int(self.comm.allreduce(rows))
        several = {"slowest_rank": shares.slowest, "slowest_excess": shares.excess} if self.comm.size > 1 else {}
        return {
            "epoch": self.epoch + 1,
            "step": self.step,
            **results,
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": seconds,
            "samples_per_second": rows / seconds,
            **several,
        }

    def _step(self, meter: Meter, x: Any, y: Any) -> float:
        self.optimizer.zero_grad()
        parts = self.optimizer.each_shard(x, y) if self._shards else [(x, y)]
        losses = [self._backward(meter, *part) for part in parts]
        self.optimizer.step()
        self.step += 1
        self.step_in_epoch += 1
        return float(np.mean(losses)) if losses else math.nan

    def _backward(self, meter: Meter, x: Any, y: Any) -> float:
        before = self.comm.meetings.count
        outputs = self._outputs(x)
        loss = self._loss(outputs, y)
        if loss.denominator is not None:
            loss.backward()
        elif len(outputs) or self.comm.meetings.count != before:
            # A mean over the rows; over none it is NaN: this rank has no part in the step, as step() tells the others.
            # Where layers meet it has one in theirs.
            loss.backward(weight=float(len(outputs)))
        return _measure(meter, outputs, y, loss, self.optimizer.synchronizer.shard or 0)

    @property
    def _shards(self) -> int:
        """The number of shards in reproducible mode, else 0."""
        synchronizer = self.optimizer.synchronizer
        return synchronizer.shards if isinstance(synchronizer, ReproducibleSynchronizer) else 0

    def _parts(self, x: Any, y: Any) -> Iterator[tuple[int, Any, Any]]:
        """Yield what is evaluated at once, and the shard that it counts for."""
        batch, synchronizer = named_batch(), self.optimizer.synchronizer
        if not isinstance(synchronizer, ReproducibleSynchronizer):
            yield 0, x, y
        elif batch is None or batch.shards != synchronizer.shards:
            yield synchronizer.mine[0], x, y
        else:
            for shard, rows, pieces in cut_batch(batch, synchronizer.mine, (x, y)):
                if rows:
                    yield shard, *pieces

    def synchronize_buffers(self) -> None:
        """Give all ranks the mean of their buffers."""
        # In reproducible mode they are the same everywhere.
        if not self._shards:
            average_buffers(self.model, self.comm)

    def _outputs(self, x: Any) -> Tensor:
        outputs = self.model(tensor(x))
        if not isinstance(outputs, Tensor):
            raise checks.bad_type("model", type(outputs).__name__, "must return one tensor; write the loop for others")
        return outputs

    def _loss(self, outputs: Tensor, targets: Any) -> Tensor:
        if len(outputs):
            return self.loss(outputs, targets)
        with warnings.catch_warnings():
            # NumPy's, about the mean of nothing.
            warnings.simplefilter("ignore", RuntimeWarning)
            return self.loss(outputs, targets)

    def _call(self, event: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *args)


def _measure(meter: Meter, outputs: Tensor, targets: Any, loss: Tensor, shard: int) -> float:
    value = float(loss.item())
    weight = (
        loss.denominator if loss.denominator is not None and math.isfinite(loss.denominator) else float(len(outputs))
    )
    meter.update(outputs.data, targets.data if isinstance(targets, Tensor) else targets, value, weight, shard)
    return value


def _check_data(data: Any) -> None:
    if isinstance(data, (tuple, list)) and data and all(isinstance(part, (np.ndarray, Tensor)) for part in data):
        raise checks.bad_type("data", data[0].shape, "and others must be a data set: ArrayDataset(inputs, targets)")


def _is_loader(data: Any) -> bool:
    """Say whether `data` yields batches itself: a loader, or an iterable that cannot be indexed."""
    return isinstance(data, (DataLoader, Iterator)) or not (hasattr(data, "__getitem__") and hasattr(data, "__len__"))
