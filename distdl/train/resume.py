"""When a fit takes a checkpoint, and how it goes on from one: on the same or another number of ranks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..core import checks, settings
from ..core.errors import FileFormatError, LaunchError, MissingDataError, PeerError
from ..core.exit_codes import REQUEUE
from ..core.file_errors import bad_file
from ..core.filelock import FileLock
from ..core.files import make_directory
from ..parallel import ReproducibleSynchronizer
from .callbacks import Best, Record
from .capture import capture, check_state, restore
from .checkpoint import (
    Arrays,
    Checkpoint,
    checkpoint_path,
    list_checkpoints,
    mark_best,
    read_checkpoint,
    tidy_checkpoints,
    write_checkpoint,
)
from .metrics import Meter
from .notice import Notice, Preempted

if TYPE_CHECKING:
    from .trainer import Trainer

OnError = Literal["stop", "warn"]

_LOCK = "lock"


class Asked(NamedTuple):
    """What `Trainer.fit` was asked about checkpoints; see there."""

    checkpoints: str | Path | None = None
    checkpoint_every: int | None = None
    keep: int = 3
    resume: str | Path | None = None
    on_checkpoint_error: OnError = "stop"
    best: Best | None = None
    max_time: float | timedelta | None = None


class _Fits:
    """How many fits of this process took the directory that the environment names."""

    count = 0


def checkpoints_of(trainer: Trainer, asked: Asked) -> Checkpoints | None:
    """Return what takes the checkpoints of a fit; None if nobody asked for any.

    Raises:
        ArgumentError: something was asked for that needs a directory, and there is none.
    """
    told = settings.checkpoint_directory()
    if asked.checkpoints is None and told is not None:
        # Fits of one script must not meet in one directory, and find theirs again when the script is started anew.
        _Fits.count += 1
        directory = told if _Fits.count == 1 else told / f"fit-{_Fits.count}"
        asked = asked._replace(checkpoints=directory, resume=asked.resume or "auto")
    if asked.checkpoints is not None:
        return Checkpoints(trainer, asked)
    for name in ("checkpoint_every", "resume", "best", "max_time"):
        if getattr(asked, name) is not None:
            raise checks.bad_value("checkpoints", None, f"must be a directory where `{name}` is given")
    return None


class Checkpoints:
    """Writes checkpoints of a fit from rank 0, in the background, and finds the one to go on from.

    Args:
        trainer: whose fit.
        asked: with the directory where they lie; rank 0 reads and writes it, one job at a time.

    Raises:
        LaunchError: another job uses the directory.
    """

    def __init__(self, trainer: Trainer, asked: Asked):
        assert asked.checkpoints is not None
        every = asked.checkpoint_every
        self.trainer = trainer
        self.directory = Path(asked.checkpoints)
        self.every = None if every is None else checks.integer("checkpoint_every", every, 1)
        self.keep = checks.integer("keep", asked.keep, 1)
        self.on_error = checks.one_of("on_checkpoint_error", asked.on_checkpoint_error, ("stop", "warn"))
        self.asked_to_resume = asked.resume
        self.best = asked.best or Best()
        self.best_step: int | None = None
        self._lock = FileLock(self.directory / _LOCK)
        self._writer: threading.Thread | None = None
        self._problem = ""
        self._notice = Notice(asked.max_time)
        self._everywhere(self._take_lock)
        self._notice.listen()

    def _take_lock(self) -> None:
        make_directory(self.directory)
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
        self._notice.close()
        self.trainer.optimizer.synchronizer.asks_to_leave = False
        self._join()
        self._lock.release()

    def after_step(self, meter: Meter) -> None:
        """Take a checkpoint if it is time, and leave if any rank asked to.

        Raises:
            Preempted: on all ranks, since one of them was told to end soon.
        """
        synchronizer = self.trainer.optimizer.synchronizer
        is_leaving = synchronizer.is_leaving
        if is_leaving or (self.every is not None and self.trainer.step % self.every == 0):
            self.save(meter)
        if is_leaving:
            self._leave()
        # Known to all with the gradients of the next step.
        synchronizer.asks_to_leave = bool(self._notice.reason)

    def after_epoch(self, record: Record) -> None:
        """Take a checkpoint, and leave if any rank asks to.

        Raises:
            Preempted: on all ranks, since one of them was told to end soon.
        """
        if self.best.improved(record):
            self.best_step = self.trainer.step
        self.save(None)
        if self.trainer.comm.allreduce(int(bool(self._notice.reason)), "max"):
            self._leave()

    def _leave(self) -> None:
        comm = self.trainer.comm
        reasons = comm.allgather_object(self._notice.reason)
        reason = next(f"{reason} on rank {rank}" for rank, reason in enumerate(reasons) if reason)
        self._check()
        if comm.rank == 0:
            where = f"step {self.trainer.step} in {self.directory}"
            print(f"distdl: {reason}: leaving with exit code {REQUEUE}, to go on from {where}", file=sys.stderr)
        raise Preempted(self.trainer.step, reason)

    def save(self, meter: Meter | None) -> None:
        """Take a checkpoint now; all ranks must call this. The files are written while training goes on.

        Args:
            meter: that of the epoch in progress; None between epochs.
        """
        trainer = self.trainer
        trainer.synchronize_buffers()
        state, arrays = capture(trainer, meter)
        state["best"] = {"value": self.best.value, "step": self.best_step}
        self._check()
        if trainer.comm.rank == 0:
            self._join()
            self._writer = threading.Thread(
                target=self._write, args=(trainer.step, arrays, state), name="distdl-checkpoint"
            )
            self._writer.start()

    def _write(self, step: int, arrays: Arrays, state: dict[str, Any]) -> None:
        try:
            written = write_checkpoint(self.directory, step, arrays, state)
            best = state["best"]["step"]
            if best == step:
                mark_best(written)
            tidy_checkpoints(self.directory, self.keep, None if best is None else checkpoint_path(self.directory, best))
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
            return _read(resume)
        for path in list_checkpoints(self.directory):
            try:
                return _read(path)
            except (FileFormatError, MissingDataError) as error:
                print(f"distdl: damaged checkpoint, the one before is taken: {error}", file=sys.stderr, flush=True)
        return None

    def resume(self) -> Meter | None:
        """Go on from a checkpoint, if asked to, and return the meter of the epoch that it lies within, if it does.

        Raises:
            MissingDataError, FileFormatError: the checkpoint that was asked for is missing or damaged.
            ArgumentError: it is of another model, optimizer, or plan.
        """
        trainer, comm, asked = self.trainer, self.trainer.comm, self.asked_to_resume
        if asked is None:
            return None
        found = self._everywhere(lambda: self.find(asked))
        if not comm.broadcast_object(found is not None):
            return None
        state = comm.broadcast_object(found.state if found else None)
        arrays = _broadcast_arrays(comm, found.arrays if found else {})
        try:
            restore(trainer, state, arrays)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            # Everybody's own state is in there; what reads it does not expect another's.
            what = f"cannot be taken up, its state is not of this fit ({type(error).__name__}: {error})"
            raise bad_file(self.directory if asked == "auto" else asked, what) from error
        best = state.get("best", {})
        self.best.value, self.best_step = best.get("value"), best.get("step")
        is_over = trainer.epoch >= trainer.epochs
        where = "which was the last" if is_over else f"in epoch {trainer.epoch + 1} of {trainer.epochs}"
        comm.print(f"distdl: going on after step {trainer.step}, {where}, from {self.directory}", file=sys.stderr)
        return self._meter(state, arrays["metrics"]["sums"]) if state["is_within"] else None

    def _meter(self, state: dict[str, Any], sums: np.ndarray) -> Meter:
        meter, synchronizer = self.trainer.make_meter(), self.trainer.optimizer.synchronizer
        if isinstance(synchronizer, ReproducibleSynchronizer):
            meter.load_state(sums, state["metrics"], synchronizer.mine)
        else:
            meter.load_state(sums, state["metrics"], [0] if self.trainer.comm.rank == 0 else [])
        return meter


def _read(path: str | Path) -> Checkpoint:
    found = read_checkpoint(path)
    check_state(path, found.state, found.arrays)
    return found


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
