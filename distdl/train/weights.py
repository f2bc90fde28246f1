"""Weights on disk, as safetensors: arrays by name, and nothing that could run."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..core.files import read_bounded, write_durably
from ..nn import Module
from .tensors import parse_tensors


def save_weights(
    model: Module | Mapping[str, Any], path: str | os.PathLike[str], notes: Mapping[str, Any] | None = None
) -> None:
    """Write parameters and buffers to a file, which is complete or not there at all.

    Args:
        model: a module, or a mapping of names to arrays.
        path: the file; by custom it ends in `.safetensors`.
        notes: JSON-like values to keep beside the weights.
    """
    from safetensors.numpy import save

    state = model if isinstance(model, Mapping) else model.state_dict()
    arrays = {name: np.asarray(array, order="C") for name, array in state.items()}
    write_durably(Path(path), save(arrays, {"distdl": json.dumps(dict(notes or {}))}))


def load_weights(model: Module, path: str | os.PathLike[str]) -> None:
    """Read a file that `save_weights` wrote into the parameters and buffers of a module.

    Raises:
        MissingDataError: there is no such file.
        FileFormatError: it is no whole safetensors file.
        ArgumentError: names or shapes are not the module's.
    """
    model.load_state_dict(parse_tensors(path, read_bounded(path)))
