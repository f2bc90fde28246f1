"""Samples to batches."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import checks
from ..core.errors import ArgumentError, ArgumentTypeError


def default_collate(samples: Sequence[Any]) -> Any:
    """Stack samples into a batch.

    Args:
        samples: at least one sample; all alike. Arrays (of PyTorch, too) and numbers become arrays with a new
            first axis, of the type that NumPy gives them; tuples, lists and dicts are stacked part by part;
            text stays a list.

    Returns:
        An array, a tuple, a dict, or a list of text.

    Raises:
        ValueError: the samples differ in shape or structure.
        TypeError: a sample is no array, number, tuple, dict, or text.
    """
    first = samples[0]
    if isinstance(first, dict):
        if any(set(sample) != set(first) for sample in samples):
            raise ArgumentError(f"`samples` must all have the keys {sorted(map(str, first))}")
        return {name: default_collate([sample[name] for sample in samples]) for name in first}
    if isinstance(first, (tuple, list)):
        if any(len(sample) != len(first) for sample in samples):
            raise ArgumentError(f"`samples` must all have {len(first)} parts, as the first has")
        return tuple(default_collate(part) for part in zip(*samples, strict=True))
    if isinstance(first, (str, bytes)):
        return list(samples)
    return _stack([np.asarray(sample) for sample in samples])


def _stack(arrays: list[np.ndarray]) -> np.ndarray:
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise checks.bad_value("samples", sorted(shapes), "must have one shape; give `collate_fn` to join others")
    if any(array.dtype.hasobject for array in arrays):
        raise ArgumentTypeError("`samples` must be arrays, numbers, text, or tuples and dicts of them")
    return np.stack(arrays)


def map_arrays(function: Callable[[Any], Any], batch: Any) -> Any:
    """Apply `function` to every array (and list of text) of a batch."""
    if isinstance(batch, dict):
        return {name: map_arrays(function, part) for name, part in batch.items()}
    if isinstance(batch, tuple):
        return tuple(map_arrays(function, part) for part in batch)
    return function(batch)
