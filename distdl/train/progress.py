"""The progress display: a bar on a terminal, a line an epoch elsewhere. Rank 0 only, on stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from .callbacks import Callback, Record

if TYPE_CHECKING:
    from .trainer import Trainer

LINE_SECONDS = 10.0
"""Without a terminal a long epoch says this often how far it is."""


UNEVEN, UNEVEN_SECONDS = 0.2, 2.0
"""A rank that computes longer than the median rank by so much is named, of epochs that are not too short to tell."""

_NOT_METRICS = ("epoch", "step", "loss", "lr", "seconds", "samples_per_second", "slowest_excess")


class Progress(Callback):
    """Shows epoch, step, loss and samples per second over all ranks."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._loss = 0.0
        self._last_line = 0.0

    def on_epoch_start(self, trainer: Trainer) -> None:
        if trainer.comm.rank:
            return
        self._last_line = time.monotonic()
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=trainer.rows_per_epoch,
                desc=_title(trainer),
                unit=" samples",
                unit_scale=True,
                leave=False,
                file=sys.stderr,
                dynamic_ncols=True,
            )

    def on_step_end(self, trainer: Trainer, loss: float, rows: int) -> None:
        if trainer.comm.rank:
            return
        self._loss = loss if trainer.step_in_epoch == 1 else 0.95 * self._loss + 0.05 * loss
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {self._loss:.4f}", refresh=False)
            self._bar.update(trainer.rows_of_step(rows))
        elif time.monotonic() - self._last_line > LINE_SECONDS:
            self._last_line = time.monotonic()
            _say(f"{_title(trainer)}  step {trainer.step_in_epoch}/{trainer.steps_per_epoch}  loss {self._loss:.4f}")

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        if trainer.comm.rank:
            return
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        _say(f"{_title(trainer)}  {line(record)}")


def line(record: Record) -> str:
    """Put the numbers of an epoch's record into one line."""
    parts = [f"loss {record['loss']:.4f}"]
    for name, value in record.items():
        if name not in _NOT_METRICS and isinstance(value, float):
            parts.append(f"{name.replace('_', ' ')} {value:.4f}")
    parts.append(f"{record['samples_per_second']:,.0f} samples/s")
    if record.get("slowest_excess", 0.0) > UNEVEN and record["seconds"] > UNEVEN_SECONDS:
        parts.append(f"(rank {record['slowest_rank']} computes {record['slowest_excess']:.0%} longer than the median)")
    return "  ".join(parts)


def _title(trainer: Trainer) -> str:
    width = len(str(trainer.epochs))
    return f"epoch {trainer.epoch + 1:{width}d}/{trainer.epochs}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
