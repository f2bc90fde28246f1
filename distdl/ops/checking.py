"""What operations on layers' arrays say about wrong shapes and types."""

from typing import Any

import numpy as np

from ..core.errors import ArgumentError, ArgumentTypeError

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
IMAGES = "images are NHWC, weights (kh, kw, in_channels // groups, out_channels)"


def bad_shape(name: str, array: Any, expected: str, why: str = "") -> ArgumentError:
    """Build (not raise) the error for an array whose shape is not the expected one."""
    return ArgumentError(f"`{name}` (shape {np.shape(array)}) must be {expected}" + (f": {why}" if why else ""))


def check_float(name: str, array: np.ndarray) -> None:
    """Raise unless an array is of float32 or float64."""
    if array.dtype not in _FLOATS:
        raise ArgumentTypeError(f"`{name}` (dtype {array.dtype}) must be float32 or float64")


def check_images(x: np.ndarray, channels: int | None = None) -> None:
    """Raise unless `x` is a batch of NHWC images of floats, of so many channels."""
    check_float("x", x)
    if x.ndim != 4 or (channels is not None and x.shape[3] != channels):
        raise bad_shape("x", x, f"(N, H, W, {'C' if channels is None else channels})", IMAGES)


_OF_LAYERS = frozenset({"w", "b", "weight", "bias"})


def check_like(name: str, array: np.ndarray, x: np.ndarray, shape: tuple[int, ...], why: str = "") -> None:
    """Raise unless `array` has this shape, and the type of `x`."""
    if array.shape != shape:
        raise bad_shape(name, array, str(shape), why)
    if array.dtype != x.dtype:
        if name in _OF_LAYERS:
            # The layer has had its type for long: the input is the newcomer.
            raise ArgumentTypeError(
                f"`x` (dtype {x.dtype}) must have the type of `{name}`, {array.dtype}: x.astype(np.{array.dtype})"
            )
        raise ArgumentTypeError(f"`{name}` (dtype {array.dtype}) must have the type of `x`, {x.dtype}")
