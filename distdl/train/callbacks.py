"""`Callback`, and the callbacks that watch and steer a fit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..core import checks

if TYPE_CHECKING:
    from .trainer import Trainer

Record = dict[str, Any]


class Callback:
    """Is told what the trainer does. All ranks call all callbacks in the same order, so that they may meet in them."""

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first epoch."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Before the first step of an epoch."""

    def on_step_end(self, trainer: Trainer, loss: float, rows: int) -> None:
        """After a step; `loss` and `rows` are this rank's."""

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        """After an epoch and its validation; `record` is the same on all ranks."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a fit that goes on from a checkpoint must know: JSON-like or arrays, the same on all ranks."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""


class Schedule(Callback):
    """Steps a learning-rate schedule.

    Args:
        scheduler: of `distdl.optim.lr_scheduler`.
        every: "step" or "epoch".
        monitor: for a schedule on a plateau, the entry of the epoch's record that it sees.
    """

    def __init__(self, scheduler: Any, every: str = "epoch", monitor: str | None = None):
        self.scheduler = scheduler
        self.every = checks.one_of("every", every, ("step", "epoch"))
        self.monitor = monitor
        if monitor is not None and every == "step":
            raise checks.bad_value("every", every, "must be 'epoch' where `monitor` is given")

    def on_step_end(self, trainer: Trainer, loss: float, rows: int) -> None:
        if self.every == "step":
            self.scheduler.step()

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        if self.every == "epoch":
            self.scheduler.step(*([] if self.monitor is None else [entry(record, self.monitor)]))

    def state_dict(self) -> dict[str, Any]:
        return dict(self.scheduler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scheduler.load_state_dict(state)


class Best:
    """Keeps the best value of one entry of the records.

    Args:
        monitor: the entry; None takes the first of validation accuracy, accuracy of the training, loss that there is.
        mode: "max", "min", or None: "min" for entries that end in "loss".
        min_delta: improvement that counts.
    """

    def __init__(self, monitor: str | None = None, mode: str | None = None, min_delta: float = 0.0):
        self.monitor = monitor
        self.mode = None if mode is None else checks.one_of("mode", mode, ("min", "max"))
        self.min_delta = checks.real("min_delta", min_delta, 0.0)
        self.value: float | None = None

    def improved(self, record: Record) -> bool:
        """Take note of a record, and say whether it is the best so far."""
        name = self.monitor or next(
            name for name in ("validation_accuracy", "validation_loss", "accuracy", "loss") if name in record
        )
        value = float(entry(record, name))
        sign = -1 if (self.mode or ("min" if name.endswith("loss") else "max")) == "min" else 1
        if math.isnan(value) or (self.value is not None and sign * (value - self.value) <= self.min_delta):
            return False
        self.value = value
        return True


class EarlyStopping(Callback):
    """Stops the fit after `patience` epochs without a better value; all ranks see the same, and stop together.

    Args:
        patience: epochs that are let pass.
        monitor, mode, min_delta: see `Best`.
    """

    def __init__(self, patience: int, monitor: str | None = None, mode: str | None = None, min_delta: float = 0.0):
        self.patience = checks.integer("patience", patience, 0)
        self.best = Best(monitor, mode, min_delta)
        self.bad_epochs = 0

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        self.bad_epochs = 0 if self.best.improved(record) else self.bad_epochs + 1
        if self.bad_epochs > self.patience:
            trainer.stop()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best.value, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best.value, self.bad_epochs = state["best"], state["bad_epochs"]


def entry(record: Record, name: str) -> Any:
    """Return an entry of a record, or raise naming those that there are."""
    if name not in record:
        raise checks.bad_value("monitor", name, "must be one of " + ", ".join(sorted(record)))
    return record[name]
