"""What `distdl checkpoint show|verify|diff` says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core.errors import FileFormatError, MissingDataError
from .checkpoint import Checkpoint, list_checkpoints, read_checkpoint, read_manifest, verify_checkpoint


class Report(NamedTuple):
    """Words, and whether all is well."""

    text: str
    is_good: bool


def _found(path: str) -> list[Path]:
    """Return a checkpoint, or those below a directory, the newest first."""
    below = list_checkpoints(path)
    return below or [Path(path)]


def verify(path: str) -> Report:
    """Compare every file of a checkpoint, or of all below a directory, with the manifest."""
    lines, is_good = [], True
    for checkpoint in _found(path):
        problems = verify_checkpoint(checkpoint)
        is_good = is_good and not problems
        lines += problems or [f"{checkpoint}: good"]
    return Report("\n".join(lines), is_good)


def show(path: str) -> Report:
    """List what a checkpoint holds, or the checkpoints below a directory."""
    below = list_checkpoints(path)
    if not below:
        return Report(_describe(read_checkpoint(path)), True)
    lines, is_good = [], True
    for checkpoint in below:
        try:
            manifest = read_manifest(checkpoint)
            size = sum(entry["bytes"] for entry in manifest["files"].values())
            lines.append(
                f"{checkpoint.name}  step {manifest['step']}, {size / 1e6:.1f} MB, distdl {manifest['distdl']}"
            )
        except (FileFormatError, MissingDataError) as error:
            lines.append(f"{checkpoint.name}  damaged: {error}")
            is_good = False
    return Report("\n".join(lines), is_good)


def _describe(found: Checkpoint) -> str:
    state = found.state
    lines = [f"{found.path}: step {found.step}"]
    if "epoch" in state:
        within = f", after {state['step_in_epoch']} steps of it" if state.get("is_within") else ", at its beginning"
        lines.append(f"epoch {state['epoch'] + 1}{within}; written by {state['ranks']} ranks; seed {state['seed']}")
    lines += [f"{name}: {value}" for name, value in state.get("configuration", {}).items()]
    for record in state.get("history", [])[-1:]:
        lines.append("last record: " + json.dumps(record))
    for file, arrays in found.arrays.items():
        lines.append(f"{file}: {len(arrays)} arrays, {sum(array.nbytes for array in arrays.values()) / 1e6:.2f} MB")
        width = max(map(len, arrays), default=0)
        lines += [f"  {name:{width}}  {array.dtype} {tuple(array.shape)}" for name, array in sorted(arrays.items())]
    return "\n".join(lines)


def diff(path: str, other: str) -> Report:
    """Say where two checkpoints differ: arrays bit by bit, the rest value by value."""
    first, second = (read_checkpoint(_found(name)[0]) for name in (path, other))
    lines = []
    for file in sorted({*first.arrays, *second.arrays}):
        ours, theirs = first.arrays.get(file, {}), second.arrays.get(file, {})
        for name in sorted({*ours, *theirs}):
            said = _differ(ours.get(name), theirs.get(name))
            lines += [f"{file}: {name}: {said}"] if said else []
    for name in sorted({*first.state, *second.state}):
        values = [json.dumps(state.get(name)) for state in (first.state, second.state)]
        if values[0] != values[1]:
            lines.append(f"state: {name}: {values[0][:80]} and {values[1][:80]}")
    return Report("\n".join(lines) or "no difference", not lines)


def _differ(first: Any, second: Any) -> str:
    if first is None or second is None:
        return "only in the " + ("second" if first is None else "first")
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return f"{first.dtype} {first.shape} and {second.dtype} {second.shape}"
    if first.tobytes() == second.tobytes():
        return ""
    apart = int((first != second).sum())
    largest = float(np.abs(first.astype(np.float64) - second.astype(np.float64)).max())
    return f"{apart} of {first.size} values differ, by up to {largest:.3g}"
