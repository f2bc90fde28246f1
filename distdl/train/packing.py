"""State as a file can hold it: JSON, and arrays by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_ARRAY = "$array"


def pack(state: Any, arrays: dict[str, np.ndarray], name: str) -> Any:
    """Return a state of dicts, lists, numbers and arrays with references in place of its arrays.

    Args:
        state: JSON-like but for arrays.
        arrays: gets copies of them, named after their places.
        name: of the state's own place.
    """
    if isinstance(state, np.ndarray):
        arrays[name] = np.array(state)
        return {_ARRAY: name}
    if isinstance(state, np.generic):
        return state.item()
    if isinstance(state, Mapping):
        return {str(key): pack(value, arrays, f"{name}/{key}") for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [pack(value, arrays, f"{name}/{i}") for i, value in enumerate(state)]
    return state


def unpack(state: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return what `pack` was given; tuples are lists.

    Raises:
        KeyError: an array is missing.
    """
    if isinstance(state, dict):
        if set(state) == {_ARRAY}:
            return arrays[state[_ARRAY]]
        return {key: unpack(value, arrays) for key, value in state.items()}
    return [unpack(value, arrays) for value in state] if isinstance(state, list) else state
