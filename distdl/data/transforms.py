"""Light augmentation of batches of images in NHWC.

Draws are keyed by the sample, not by the rank or the thread. Transforms of one kind draw the same for a sample, so
that an image and its mask, transformed side by side in a `batch_transform`, stay aligned.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import checks, random


class Compose:
    """Applies transforms one after another."""

    def __init__(self, *transforms: Callable[[Any], Any]) -> None:
        """Keep the transforms, first to last."""
        for i, transform in enumerate(transforms):
            if not callable(transform):
                raise checks.bad_type(f"transforms[{i}]", transform, "must be callable")
        self.transforms = transforms

    def __call__(self, x: Any) -> Any:
        """Return `x` after all transforms."""
        for transform in self.transforms:
            x = transform(x)
        return x


class RandomHorizontalFlip:
    """Mirrors each image with probability `p`, left to right."""

    def __init__(self, p: float = 0.5) -> None:
        """Keep the probability, in [0, 1]."""
        self.p = checks.real("p", p, 0.0, 1.0)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return a copy of `x` (n, height, width, channels) with some images mirrored."""
        _check_images(x)
        flipped = random.current_batch(len(x)).uniform("flip", 1)[:, 0] < self.p
        mirrored = x.copy()
        mirrored[flipped] = x[flipped, :, ::-1]
        return mirrored


class RandomCrop:
    """Cuts a window out of each image at a random place, after padding with zeros."""

    def __init__(self, size: int | tuple[int, int] | None = None, padding: int | tuple[int, int] = 0) -> None:
        """Keep what to cut.

        Args:
            size: height and width of the window; None keeps those of the image.
            padding: rows of zeros above and below, columns of zeros left and right.
        """
        self.size = None if size is None else checks.pair("size", size, 1)
        self.padding = checks.pair("padding", padding, 0)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return a window of each image of `x` (n, height, width, channels)."""
        _check_images(x)
        rows, columns = self.padding
        height, width = self.size or x.shape[1:3]
        padded = np.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
        room = np.array([padded.shape[1] - height + 1, padded.shape[2] - width + 1])
        if room.min() < 1:
            raise checks.bad_value("size", (height, width), f"must fit into padded images of {padded.shape[1:3]}")
        corners = (random.current_batch(len(x)).uniform("crop", 2) * room).astype(np.int64).tolist()
        windows = np.empty((len(x), height, width, x.shape[3]), x.dtype)
        # A slice an image is several times faster here than one gather of all pixels.
        for window, image, (top, left) in zip(windows, padded, corners, strict=True):
            window[...] = image[top : top + height, left : left + width]
        return windows


class Normalize:
    """Subtracts a mean and divides by a standard deviation, per channel (last axis)."""

    def __init__(self, mean: Any, std: Any) -> None:
        """Keep `mean` and `std`: numbers, or one per channel; `std` > 0."""
        self.mean, self.std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        for name, value in (("mean", self.mean), ("std", self.std)):
            if value.ndim > 1 or not np.isfinite(value).all():
                raise checks.bad_value(name, value.tolist(), "must be a finite number, or one per channel")
        if (self.std <= 0).any():
            raise checks.bad_value("std", self.std.tolist(), "must be > 0")

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return (x - mean) / std, in the floating type of `x` (integers give float32)."""
        dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float32)
        for name, value in (("mean", self.mean), ("std", self.std)):
            if value.size not in (1, x.shape[-1]):
                raise checks.bad_value(name, value.tolist(), f"must hold one number for each of {x.shape[-1]} channels")
        return (x.astype(dtype, copy=False) - self.mean.astype(dtype)) / self.std.astype(dtype)


def _check_images(x: np.ndarray) -> None:
    if x.ndim != 4:
        raise checks.bad_value("x", x.shape, "must have the shape (n, height, width, channels)")
