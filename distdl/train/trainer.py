"""`Trainer`: the loop that most people should not have to write."""

from __future__ import annotations

import math
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import Tensor, no_grad, tensor
from ..core import checks, spans
from ..core.errors import ArgumentError
from ..core.random import get_seed, named_batch
from ..data import DataLoader, GlobalBatchSampler
from ..data.dataset import order_of
from ..kernels.conditions import conditions
from ..nn import Module
from ..optim import Optimizer
from ..parallel import Balance, DistributedOptimizer, ReproducibleSynchronizer
from ..parallel import trace as parallel_trace
from ..parallel.buffers import synchronize_buffers as average_buffers
from ..parallel.compression import Hook
from ..parallel.reproducible import cut_batch
from ..version import __version__
from .callbacks import Best, Callback, Record
from .feed import Feed, check_data, is_loader, make_feed
from .metrics import Loss, Meter, Metric, default_metrics
from .progress import Progress
from .resume import Asked, Checkpoints, OnError, checkpoints_of
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
        compression: sends fewer bytes between nodes, see `GradientSynchronizer`; a distributed optimizer has its own.
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
        compression: str | Hook | None = None,
    ):
        if not isinstance(model, Module):
            raise checks.bad_type("model", model, "must be a distdl.nn.Module")
        if not callable(loss):
            raise checks.bad_type("loss", loss, "must be a function of outputs and targets")
        if isinstance(optimizer, DistributedOptimizer):
            if comm is not None and comm is not optimizer.comm:
                raise checks.bad_value("comm", comm, "is not the communicator of the distributed optimizer")
            if compression is not None:
                raise ArgumentError("`compression` is to be given to the distributed optimizer, which is made already")
            self.optimizer = optimizer
            if reproducible:
                optimizer.make_reproducible(model, shards)
        else:
            self.optimizer = DistributedOptimizer(
                optimizer, comm, model=model, reproducible=reproducible, shards=shards, compression=compression
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
        self._stopped = False
        self.feed = Feed(None)
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
        best: Best | None = None,
        max_time: float | timedelta | None = None,
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
            checkpoints: directory for checkpoints, taken while training goes on; one job at a time uses it. On SIGTERM
                or SIGUSR1 on any rank all leave after a step with a checkpoint and the exit code 75 (`Preempted`). By
                default what `DISTDL_CHECKPOINT_DIR` says, with resume="auto": so `distdl launch --checkpoint-dir`.
            checkpoint_every: steps between two; by default one at the end of each epoch.
            keep: how many of the newest stay, beside the best.
            resume: "auto" goes on from the newest whole checkpoint in `checkpoints`, if there is one; a path from that
                one. Model, data, optimizer, callbacks and batch size must be as they were; ranks may be others.
            on_checkpoint_error: "stop" ends the fit when a checkpoint cannot be written, "warn" goes on without.
            best: which epoch's checkpoint stays, under the name `best`, too; by default `Best()`.
            max_time: seconds (or a `timedelta`) after which all ranks leave as on SIGTERM.
            trace: file for a timeline of all ranks, see `distdl.parallel.trace`; what became of the time is printed.

        Returns:
            A record an epoch: epoch, step, loss, metrics, validation_..., lr, seconds, samples_per_second; with
            several ranks slowest_rank, and by which share of the median rank's time it computes longer.

        Raises:
            Preempted: the job is to end, and can go on later; uncaught it ends the script with the exit code 75.
        """
        self.epochs = checks.integer("epochs", epochs, 1)
        seed = self.comm.broadcast_object(get_seed() if seed is None else seed)
        self.feed = make_feed(self.comm, data, batch_size, transform, seed, shares, self._shards)
        self.feed.compare(self.comm)
        self.history, self._stopped, self.step, self.epoch, self.step_in_epoch = [], False, 0, 0, 0
        asked = Asked(checkpoints, checkpoint_every, keep, resume, on_checkpoint_error, best, max_time)
        self._checkpoints = checkpoints_of(self, asked)
        try:
            resumed = self._checkpoints.resume() if self._checkpoints is not None else None
            if trace is None:
                self._fit(validation, resumed)
            else:
                with parallel_trace(trace, self.comm) as timeline:
                    self._fit(validation, resumed)
                self.comm.print(timeline.summary(), file=sys.stderr)
        finally:
            if self._checkpoints is not None:
                self._checkpoints.close()
        return self.history

    def _fit(self, validation: Any, resumed: Meter | None) -> None:
        self._call("on_fit_start")
        for epoch in range(self.epoch, self.epochs):
            self.epoch = epoch
            record = self._epoch(resumed)
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
                self._checkpoints.after_epoch(record)
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
        check_data(data)
        if not is_loader(data):
            # Of data in shards each rank reads some, in any order.
            order = order_of(data)
            sampler = GlobalBatchSampler(
                len(data),
                batch_size,
                self.comm.rank,
                self.comm.size,
                shuffle=order is not None,
                shards=self._shards,
                order=order,
            )
            loader = DataLoader(data, batch_sampler=sampler)
        self.synchronize_buffers()
        meter = self.make_meter()
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
        hook = self.optimizer.synchronizer.compression
        return {
            "distdl": __version__,
            "python": platform.python_version(),
            "ranks": self.comm.size,
            "parameters": sum(parameter.size for parameter in self.model.parameters()),
            "epochs": self.epochs,
            "batch_size": self.batch_size or None,
            "seed": get_seed(),
            **({} if hook is None else {"compression": hook.name}),
            **({"shards": self._shards, **conditions()} if self._shards else {}),
        }

    @property
    def batch_size(self) -> int:
        """Rows of the global batch; 0 where a loader was given."""
        return self.feed.batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; 0 where a given loader does not say."""
        return self.feed.steps

    @property
    def rows_per_epoch(self) -> int:
        """Rows of an epoch over all ranks; 0 where a loader was given."""
        return self.feed.rows

    def make_meter(self) -> Meter:
        """Return what adds up the metrics of an epoch or an evaluation."""
        return Meter(self.metrics, self.comm, self._shards)

    def rows_of_step(self, rows: int) -> int:
        """Return how many rows the step had over all ranks, of which this rank had `rows`."""
        if not self.batch_size:
            return rows * self.comm.size
        return min(self.batch_size, self.rows_per_epoch - (self.step_in_epoch - 1) * self.batch_size)

    def _epoch(self, meter: Meter | None) -> Record:
        if meter is None:
            self.step_in_epoch = 0
            meter = self.make_meter()
        self.model.train()
        self._call("on_epoch_start")
        balance = Balance(self.optimizer.synchronizer)
        start = time.perf_counter()
        rows = 0
        for x, y in self.feed.loader:
            loss = self._step(meter, x, y)
            rows += len(x)
            self._call("on_step_end", loss, len(x))
            if self._checkpoints is not None:
                self._checkpoints.after_step(meter)
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
