"""Max pooling of 2x2 windows of float32, on vectors of channels."""

import numpy as np

from .registry import kernel
from .simd import LANES, fill, where_equal, zero
from .taps import Pair
from .tiles import get, put
from .windows import begin, finish, put_greatest


def _whole(y: np.ndarray) -> Pair:
    return 2 * y.shape[1], 2 * y.shape[2]


def _halve_forward(x: np.ndarray, y: np.ndarray, taps: np.ndarray) -> None:
    height, width = _whole(y)
    finish(x[:, :height, :width], False, y, taps)


@kernel(reference=_halve_forward, types=("float32",))
def halve_forward(x, y, taps):  # type: ignore[no-untyped-def]
    """y = the greatest of each 2x2 window of x (n, height, width, channels), taps = its place; see `windows.py`."""
    channels = x.shape[3]
    values, results, places = x.reshape(-1), y.reshape(-1), taps.reshape(-1)
    line = x.shape[2] * channels
    for n in range(y.shape[0]):
        for h in range(y.shape[1]):
            for w in range(y.shape[2]):
                at = (n * x.shape[1] + 2 * h) * line + 2 * w * channels
                to = ((n * y.shape[1] + h) * y.shape[2] + w) * channels
                for k in range(0, channels, LANES):
                    lanes = channels - k
                    put_greatest(
                        get(values, at + k, lanes), get(values, at + channels + k, lanes),
                        get(values, at + line + k, lanes), get(values, at + line + channels + k, lanes),
                        zero(), False, results, places, to + k, lanes,
                    )  # fmt: skip


def _halve_backward(dy: np.ndarray, taps: np.ndarray, dx: np.ndarray) -> None:
    height, width = _whole(dy)
    dx.fill(0)
    dx[:, :height, :width] = begin(dy, dy, False, taps)


@kernel(reference=_halve_backward, types=("float32",))
def halve_backward(dy, taps, dx):  # type: ignore[no-untyped-def]
    """dx = the gradient of the greatest values at their places, else 0."""
    channels = dx.shape[3]
    gradients, places, target = dy.reshape(-1), taps.reshape(-1), dx.reshape(-1)
    line = dx.shape[2] * channels
    for n in range(dy.shape[0]):
        image = n * dx.shape[1] * line
        # What no whole window holds has no gradient.
        target[image + 2 * dy.shape[1] * line : image + dx.shape[1] * line] = 0
        for h in range(dy.shape[1]):
            row = image + 2 * h * line
            target[row + 2 * dy.shape[2] * channels : row + line] = 0
            target[row + line + 2 * dy.shape[2] * channels : row + 2 * line] = 0
            for w in range(dy.shape[2]):
                at = row + 2 * w * channels
                source = ((n * dy.shape[1] + h) * dy.shape[2] + w) * channels
                for k in range(0, channels, LANES):
                    lanes = channels - k
                    gradient, place = get(gradients, source + k, lanes), get(places, source + k, lanes)
                    put(target, at + k, where_equal(place, fill(np.float32(0)), gradient), lanes)
                    put(target, at + channels + k, where_equal(place, fill(np.float32(1)), gradient), lanes)
                    put(target, at + line + k, where_equal(place, fill(np.float32(2)), gradient), lanes)
                    put(target, at + line + channels + k, where_equal(place, fill(np.float32(3)), gradient), lanes)
