"""What ranks send each other: arrays as they are, numbers and JSON-like objects packed into arrays."""

import json
from typing import Any

import numpy as np

from ..core import checks

_DTYPES = np.typecodes["AllInteger"] + "?fd"


def as_array(value: Any) -> tuple[np.ndarray, bool]:
    """Return an array that may be overwritten, and whether it was made here."""
    if not isinstance(value, np.ndarray):
        return _check_dtype(value, np.array(value)), True
    _check_dtype(value, value)
    if not value.flags.c_contiguous or not value.flags.writeable:
        raise checks.bad_value("array", f"shape {value.shape}", "must be C-contiguous and writable: it is overwritten")
    return value, False


def pack(values: np.ndarray, mark: float) -> np.ndarray:
    """Return numbers as float64 with a mark behind them if they are not integers: ranks may hold 0 and 0.5."""
    if values.dtype.kind != "f" and values.size and max(abs(int(values.min())), abs(int(values.max()))) >= 1 << 53:
        raise checks.bad_value("array", int(np.abs(values).max()), "must be an array of integers, from 2 ** 53 on")
    return np.append(values.astype(np.float64), mark if values.dtype.kind == "f" else 0.0)


def unpack(packed: np.ndarray, shape: tuple[int, ...]) -> Any:
    """Return what `pack` packed, after a collective: integers if no rank gave another number."""
    values = packed[:-1].reshape(shape)
    if not packed[-1]:
        if values.size and np.abs(values).max() >= 1 << 53:
            raise checks.bad_value(
                "array", float(np.abs(values).max()), "is a result that only an array holds, from 2 ** 53 on"
            )
        values = np.rint(values).astype(np.int64)
    return values.item() if not shape else values


def as_contiguous(value: Any) -> np.ndarray:
    """Return an array that is only read."""
    return _check_dtype(value, np.asarray(value, order="C"))


def _check_dtype(given: Any, array: np.ndarray) -> np.ndarray:
    if array.dtype.char in _DTYPES and array.dtype.isnative:
        return array
    shown = given.dtype if isinstance(given, np.ndarray) else given
    raise checks.bad_type("array", shown, "must hold booleans, integers, float32 or float64, in native byte order")


def encode(value: Any) -> bytes:
    """Return a JSON-like object as bytes, or raise if it would not come back as it is."""
    _check_keys(value)
    try:
        return json.dumps(value, default=_plain).encode()
    except (TypeError, ValueError) as error:
        raise checks.bad_type("value", value, f"must be JSON-like: {error}") from error


def _check_keys(value: Any) -> None:
    # json would turn other keys into strings without a word.
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise checks.bad_type("value", value, f"must be JSON-like: the key {key!r} is not a str")
    if isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            _check_keys(item)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not")
