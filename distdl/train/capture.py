"""What decides the future of a fit, copied and put back."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import random
from ..core.errors import ArgumentError
from ..core.file_errors import StrPath, bad_file
from .checkpoint import Arrays
from .metrics import Meter
from .packing import pack, unpack

if TYPE_CHECKING:
    from .trainer import Trainer


def capture(trainer: Trainer, meter: Meter | None) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Return everything that decides the future of a fit, copied: training may go on. A collective."""
    sums, shapes = (np.zeros((0, 0)), []) if meter is None else meter.state()
    optimizer, loader = trainer.optimizer.state_dict(), trainer.feed.loader
    hook, compression = trainer.optimizer.synchronizer.compression, trainer.optimizer.synchronizer.compression_state()
    own: dict[str, np.ndarray] = {}
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
        "plan": trainer.feed.plan(),
        "ranks": trainer.comm.size,
        "configuration": configuration(trainer),
        "seed": random.get_seed(),
        "loader": loader.state_dict() if hasattr(loader, "state_dict") else None,
        "optimizer": optimizer["groups"],
        "lockstep": trainer.optimizer.progress(),
        "compression": None if hook is None else hook.name,
        "callbacks": [pack(callback.state_dict(), own, str(i)) for i, callback in enumerate(trainer.callbacks)],
        "history": trainer.history,
        "metrics": shapes,
    }
    arrays = {
        "model": {name: np.array(array) for name, array in trainer.model.state_dict().items()},
        "optimizer": slots,
        "metrics": {"sums": sums},
        **({"callbacks": own} if own else {}),
        **({"compression": compression} if compression else {}),
    }
    return state, arrays


def configuration(trainer: Trainer) -> dict[str, Any]:
    """Return what a fit is of, as a person would ask: model, optimizer, loss, sizes, versions."""
    loss = trainer.loss
    return {
        **trainer.describe(),
        "model": type(trainer.model).__name__,
        "optimizer": type(trainer.optimizer.optimizer).__name__,
        "loss": getattr(loss, "__name__", type(loss).__name__),
    }


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "epoch": int,
    "step": int,
    "step_in_epoch": int,
    "is_within": bool,
    "plan": dict,
    "ranks": int,
    "seed": int,
    "loader": (dict, type(None)),
    "optimizer": list,
    "callbacks": list,
    "history": list,
    "metrics": list,
    "best": dict,
}
"""Of a state, what each must be."""


def check_state(path: StrPath, state: dict[str, Any], arrays: Arrays) -> None:
    """Raise unless a checkpoint has all that a fit goes on from.

    Raises:
        FileFormatError: it is of another program, or made by hand.
    """
    for name, kind in _FIELDS.items():
        if not isinstance(state.get(name), kind):
            raise bad_file(path, f"its state has {name} = {str(state.get(name))[:80]}, which no fit has written")
    for name in ("epoch", "step", "step_in_epoch"):
        if state[name] < 0:
            raise bad_file(path, f"its state has {name} = {state[name]}, must be >= 0")
    for file in ("model", "optimizer", "metrics"):
        if file not in arrays:
            raise bad_file(path, f"has no arrays of {file}")
    if "sums" not in arrays["metrics"]:
        raise bad_file(path, "has no sums of metrics")


def restore(trainer: Trainer, state: dict[str, Any], arrays: Arrays) -> None:
    """Put a fit where `capture` has found it.

    Raises:
        ArgumentError: the checkpoint is of another model, optimizer, or plan.
    """
    plan, loader = trainer.feed.plan(), trainer.feed.loader
    if state["plan"] != plan:
        apart = [name for name, value in plan.items() if state["plan"].get(name) != value]
        said = ", ".join(f"{name} was {state['plan'].get(name)} and is {plan[name]}" for name in apart)
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
    _restore_compression(trainer, state.get("compression"), arrays.get("compression", {}))
    if len(state["callbacks"]) != len(trainer.callbacks):
        raise ArgumentError(f"`resume` has {len(state['callbacks'])} callbacks, the trainer {len(trainer.callbacks)}")
    for callback, saved in zip(trainer.callbacks, state["callbacks"], strict=True):
        callback.load_state_dict(unpack(saved, arrays.get("callbacks", {})))
    if state["loader"] is not None:
        loader.load_state_dict(state["loader"])
    trainer.epoch, trainer.step, trainer.step_in_epoch = state["epoch"], state["step"], state["step_in_epoch"]
    trainer.history = state["history"]


def _restore_compression(trainer: Trainer, before: str | None, state: Mapping[str, np.ndarray]) -> None:
    """Let a compression hook go on, or say that what another has not yet sent is lost."""
    hook = trainer.optimizer.synchronizer.compression
    if hook is not None and hook.name == before:
        trainer.optimizer.synchronizer.load_compression_state(state)
    elif state:
        now = "nothing is compressed (on one node nothing is)" if hook is None else f"it is {hook.name!r}"
        trainer.comm.print(
            f"distdl: the checkpoint was taken with compression {before!r}, and now {now}: the parts of gradients that "
            "had not been sent yet are dropped",
            file=sys.stderr,
        )
