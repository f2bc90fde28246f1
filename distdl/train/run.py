"""What a fit leaves behind in its directory: log, learning curve, best and last weights. Rank 0 writes."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .callbacks import Best, Callback, Record
from .weights import save_weights

if TYPE_CHECKING:
    from .trainer import Trainer


class JsonLog(Callback):
    """Appends each epoch's record to `log.jsonl`, one JSON object a line, after a first line that describes the run.

    Args:
        directory: where the log lies; an older log there is replaced, unless the fit goes on from a checkpoint: then
            what it had written after that is.
    """

    def __init__(self, directory: Path):
        self.path = directory / "log.jsonl"

    def on_fit_start(self, trainer: Trainer) -> None:
        if trainer.comm.rank == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = [trainer.describe(), *(_finite(record) for record in trainer.history)]
            self.path.write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines))

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        if trainer.comm.rank == 0:
            with self.path.open("a") as log:
                log.write(json.dumps(_finite(record), allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """Return a record with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list) else value


class SaveWeights(Callback):
    """Saves the weights after each epoch as `last.safetensors`, and those of the best epoch as `best.safetensors`.

    Args:
        directory: where they lie.
        best: what is best; see `Best`.
    """

    def __init__(self, directory: Path, best: Best | None = None):
        self.directory = directory
        self.best = best or Best()

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        improved = self.best.improved(record)
        if trainer.comm.rank == 0:
            self.directory.mkdir(parents=True, exist_ok=True)
            save_weights(trainer.model, self.directory / "last.safetensors", {"epoch": record["epoch"]})
            if improved:
                save_weights(trainer.model, self.directory / "best.safetensors", {"epoch": record["epoch"]})

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best.value = state["best"]


class LearningCurve(Callback):
    """Draws loss and accuracy over the epochs into `learning_curve.png`, at the end of the fit.

    Args:
        directory: where the picture lies.
    """

    def __init__(self, directory: Path):
        self.path = directory / "learning_curve.png"

    def on_fit_end(self, trainer: Trainer) -> None:
        if trainer.comm.rank == 0 and trainer.history:
            try:
                draw_learning_curve(trainer.history, self.path)
            except ModuleNotFoundError as error:
                print(f"no learning curve: {error}; pip install distdl[examples] brings matplotlib", file=sys.stderr)


def draw_learning_curve(history: list[Record], path: Path) -> None:
    """Draw the records of a fit: loss on the left, accuracy (where there is one) on the right.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels = [name for name in ("loss", "accuracy") if name in history[0]]
    figure = Figure(figsize=(4.6 * len(panels), 3.4), layout="constrained")
    axes: Any = figure.subplots(1, len(panels), squeeze=False)[0]
    epochs = [record["epoch"] for record in history]
    for axis, name in zip(axes, panels, strict=True):
        for key, label, style in ((name, "training", "o-"), (f"validation_{name}", "held out", "s-")):
            if key in history[0]:
                axis.plot(epochs, [record[key] for record in history], style, markersize=3, label=label)
        axis.set(xlabel="epoch", title=name)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
