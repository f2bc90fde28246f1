"""What of a fit goes into a checkpoint, and how a fit goes on from one: on the same or another number of ranks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..core import checks, random
from ..core.errors import ArgumentError, FileFormatError, LaunchError, MissingDataError, PeerError
from ..core.filelock import FileLock
from .checkpoint import Arrays, Checkpoint, list_checkpoints, read_checkpoint, tidy_checkpoints, write_checkpoint
from .metrics import Meter

if TYPE_CHECKING:
    from .trainer import Trainer

OnError = Literal["stop", "warn"]

_LOCK = "lock"


class Checkpoints:
    """Writes checkpoints of a fit from rank 0, in the background, and finds the one to go on from.

    Args:
        trainer: whose fit.
        directory: where they lie; rank 0 reads and writes it, one job at a time.
        every: steps between two; None: one at the end of each epoch.
        keep: how many of the newest stay.
        on_error: what becomes of a write that fails: "stop" raises on all ranks, "warn" goes on.

    Raises:
        LaunchError: another job uses the directory.
    """

    def __init__(
        self,
        trainer: Trainer,
        directory: str | Path,
        every: int | None = None,
        keep: int = 3,
        on_error: OnError = "stop",
    ):
        self.trainer = trainer
        self.directory = Path(directory)
        self.every = None if every is None else checks.integer("checkpoint_every", every, 1)
        self.keep = checks.integer("keep", keep, 1)
        self.on_error = checks.one_of("on_checkpoint_error", on_error, ("stop", "warn"))
        self._lock = FileLock(self.directory / _LOCK)
        self._writer: threading.Thread | None = None
        self._problem = ""
        self._everywhere(self._take_lock)

    def _take_lock(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self._lock.acquire(0):
            raise LaunchError(f"{self.directory}: another job writes its checkpoints there")
        tidy_checkpoints(self.directory, sys.maxsize)

    def _everywhere(self, function: Callable[[], Any]) -> Any:
        """Call a function on rank 0; what it raises is raised on all ranks, and what it returns returned there."""
        problem, result = "", None
        error: Exception | None = None
        if self.trainer.comm.rank == 0:
            try:
                result = function()
            except Exception as caught:
                error, problem = caught, f"{type(caught).__name__}: {caught}"
        problem = self.trainer.comm.broadcast_object(problem)
        if error is not None:
            raise error
        if problem:
            raise PeerError(f"rank 0: {problem}")
        return result

    def close(self) -> None:
        """Wait for what is being written, and let other jobs use the directory."""
        self._join()
        self._lock.release()

    def after_step(self, meter: Meter, loader: Any) -> None:
        """Take a checkpoint if it is time."""
        if self.every is not None and self.trainer.step % self.every == 0:
            self.save(meter, loader)

    def save(self, meter: Meter | None, loader: Any) -> None:
        """Take a checkpoint now; all ranks must call this. The files are written while training goes on.

        Args:
            meter: that of the epoch in progress; None between epochs.
            loader: whose position is kept.
        """
        trainer = self.trainer
        trainer.synchronize_buffers()
        state, arrays = capture(trainer, meter, loader)
        self._check()
        if trainer.comm.rank == 0:
            self._join()
            self._writer = threading.Thread(
                target=self._write, args=(trainer.step, arrays, state), name="distdl-checkpoint"
            )
            self._writer.start()

    def _write(self, step: int, arrays: Arrays, state: dict[str, Any]) -> None:
        try:
            write_checkpoint(self.directory, step, arrays, state)
            tidy_checkpoints(self.directory, self.keep)
        except Exception as error:
            self._problem = f"checkpoint of step {step} not written: {type(error).__name__}: {error}"

    def _join(self) -> None:
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def _check(self) -> None:
        """Tell, on all ranks, that a write has failed."""
        if self.trainer.comm.rank == 0:
            self._join()
        problem, self._problem = self.trainer.comm.broadcast_object(self._problem), ""
        if problem and self.on_error == "stop":
            raise PeerError(problem)
        if problem and self.trainer.comm.rank == 0:
            print(f"distdl: {problem}; the training goes on", file=sys.stderr, flush=True)

    def finish(self) -> None:
        """At the end of a fit, see that the last checkpoint is written."""
        self._check()

    def find(self, resume: str | Path) -> Checkpoint | None:
        """Return the checkpoint to go on from: a given one, or for "auto" the newest that is whole, if any."""
        if resume != "auto":
            return read_checkpoint(resume)
        for path in list_checkpoints(self.directory):
            try:
                return read_checkpoint(path)
            except (FileFormatError, MissingDataError) as error:
                print(f"distdl: damaged checkpoint, the one before is taken: {error}", file=sys.stderr, flush=True)
        return None

    def resume(self, resume: str | Path, loader: Any) -> tuple[dict[str, Any], np.ndarray] | None:
        """Go on from a checkpoint, and return the state and sums of the epoch's metrics; None if there is none.

        Raises:
            MissingDataError, FileFormatError: the checkpoint that was asked for is missing or damaged.
            ArgumentError: it is of another model, optimizer, or plan.
        """
        found = self._everywhere(lambda: self.find(resume))
        comm = self.trainer.comm
        if not comm.broadcast_object(found is not None):
            return None
        state = comm.broadcast_object(found.state if found else None)
        arrays = _broadcast_arrays(comm, found.arrays if found else {})
        restore(self.trainer, state, arrays, loader)
        return state, arrays["metrics"]["sums"]


def _broadcast_arrays(comm: Any, arrays: Arrays) -> dict[str, dict[str, np.ndarray]]:
    """Give all ranks what rank 0 has read: other nodes need not see its disk."""
    shapes = {
        file: {name: [list(a.shape), a.dtype.str] for name, a in content.items()} for file, content in arrays.items()
    }
    result: dict[str, dict[str, np.ndarray]] = {}
    for file, content in comm.broadcast_object(shapes).items():
        result[file] = {}
        for name, (shape, dtype) in content.items():
            mine = np.array(arrays[file][name], order="C") if comm.rank == 0 else np.empty(shape, dtype)
            result[file][name] = comm.broadcast(mine)
    return result


def capture(
    trainer: Trainer, meter: Meter | None, loader: Any
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Return everything that decides the future of a fit, copied: training may go on. A collective."""
    sums, shapes = (np.zeros((0, 0)), []) if meter is None else meter.state()
    optimizer = trainer.optimizer.state_dict()
    slots = {
        f"{name}/{key}": np.array(value)
        for name, entries in optimizer["state"].items()
        for key, value in entries.items()
    }
    state = {
        "epoch": trainer.epoch,
        "step": trainer.step,
        "step_in_epoch": trainer.step_in_epoch if meter is not None else 0,
        "is_within": meter is not None,
        "plan": trainer.plan(),
        "ranks": trainer.comm.size,
        "seed": random.get_seed(),
        "loader": loader.state_dict() if hasattr(loader, "state_dict") else None,
        "optimizer": optimizer["groups"],
        "lockstep": trainer.optimizer.progress(),
        "callbacks": [callback.state_dict() for callback in trainer.callbacks],
        "history": trainer.history,
        "metrics": shapes,
    }
    arrays = {
        "model": {name: np.array(array) for name, array in trainer.model.state_dict().items()},
        "optimizer": slots,
        "metrics": {"sums": sums},
    }
    return state, arrays


def restore(trainer: Trainer, state: dict[str, Any], arrays: Arrays, loader: Any) -> None:
    """Put a fit where `capture` has found it.

    Raises:
        ArgumentError: the checkpoint is of another model, optimizer, or plan.
    """
    if state["plan"] != trainer.plan():
        apart = [name for name, value in trainer.plan().items() if state["plan"].get(name) != value]
        said = ", ".join(f"{name} was {state['plan'].get(name)} and is {trainer.plan()[name]}" for name in apart)
        raise ArgumentError(f"`resume` is of a fit with another plan: {said}")
    if state["is_within"] and state["loader"] is None:
        raise ArgumentError("`resume` lies within an epoch of a loader that cannot say where it was (state_dict)")
    if state["is_within"] and not trainer.batch_size and state["ranks"] != trainer.comm.size:
        raise ArgumentError(
            f"`resume` lies within an epoch of a loader of each rank, on {state['ranks']} ranks: only with a data set "
            f"given to fit() can it go on with {trainer.comm.size}"
        )
    random.share_seed(state["seed"])
    trainer.model.load_state_dict(arrays["model"])
    entries: dict[str, dict[str, Any]] = {name: {} for name, _ in trainer.optimizer.named_parameters()}
    for key, array in arrays["optimizer"].items():
        name, _, slot = key.rpartition("/")
        if name not in entries:
            raise ArgumentError(f"`resume` has a state of {name!r}, which the optimizer does not")
        entries[name][slot] = array if array.ndim else array.item()
    groups = [
        {name: tuple(value) if isinstance(value, list) else value for name, value in group.items()}
        for group in state["optimizer"]
    ]
    trainer.optimizer.load_state_dict({"groups": groups, "state": entries})
    trainer.optimizer.load_progress(state["lockstep"])
    if len(state["callbacks"]) != len(trainer.callbacks):
        raise ArgumentError(f"`resume` has {len(state['callbacks'])} callbacks, the trainer {len(trainer.callbacks)}")
    for callback, saved in zip(trainer.callbacks, state["callbacks"], strict=True):
        callback.load_state_dict(saved)
    if state["loader"] is not None:
        loader.load_state_dict(state["loader"])
    trainer.epoch, trainer.step, trainer.step_in_epoch = state["epoch"], state["step"], state["step_in_epoch"]
    trainer.history = state["history"]
