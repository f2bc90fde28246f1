"""The passes of batch norm over rows: by vectors for float32, shared by the threads of a rank."""

import numpy as np

from ..core import memory
from ..kernels import batch_norm, norm
from ..kernels.team import MEMORY_BOUND, Part, each_part

Affine = tuple[np.ndarray, np.ndarray]


PartMoments = tuple[int, np.ndarray, np.ndarray]
"""Of some rows: their number, the mean of each column, and the sum of squares around it."""


class Moments:
    """Mean and biased variance of each channel of a convolution's result, for the batch norm behind.

    Attributes:
        found: both, if the convolution has taken them while it wrote its result; else None.
    """

    def __init__(self) -> None:
        self.found: tuple[np.ndarray, np.ndarray] | None = None


def moments_room(channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the working memory of `batch_moments`, and memory for its results."""
    return _work(3 * channels), np.empty(channels), np.empty(channels)


def moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and biased variance of each column of (rows, channels), in its type."""
    count, channels = rows.shape
    if rows.dtype != np.float32:
        mean, variance = np.empty(channels, rows.dtype), np.empty(channels, rows.dtype)
        norm.moments(rows, mean, variance)
        return mean, variance

    def measure(part: Part) -> PartMoments:
        room = moments_room(channels)
        mine = rows[part.slice]
        part.call(batch_norm.batch_moments, mine, *room)
        return len(mine), *room[1:]

    return join_moments(each_part(measure, count, MEMORY_BOUND * channels, are_summed=True))


def join_moments(parts: list[PartMoments]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and biased variance of all rows, by the rule for groups (T. Chan, G. Golub, R. LeVeque, 1979)."""
    (seen, mean, squares), *others = parts
    for more, other, other_squares in others:
        change, share = other - mean, more / (seen + more)
        mean += change * share
        squares += other_squares + change * change * (seen * share)
        seen += more
    return mean.astype(np.float32), (squares / seen).astype(np.float32)


def scale(rows: np.ndarray, mean: np.ndarray, factor: np.ndarray, shift: np.ndarray, relu: bool) -> np.ndarray:
    """Return (rows - mean) * factor + shift, at least 0 if `relu`."""
    y = memory.empty(rows.shape, rows.dtype)
    if rows.dtype == np.float32:
        each_part(
            lambda part: part.call(batch_norm.batch_scale, rows[part.slice], mean, factor, shift, relu, y[part.slice]),
            len(rows),
            MEMORY_BOUND * rows.shape[1],
        )
        return y
    norm.scale_columns(rows, mean, factor, shift, y)
    return np.maximum(y, 0, out=y) if relu else y


def sums(rows: np.ndarray, dy: np.ndarray, mean: np.ndarray, relu: Affine | None) -> np.ndarray:
    """Return the sums over rows of dy * (rows - mean) and of dy: (2, channels) of float64.

    relu: factor and shift of the result, if dy counts only where that is positive.
    """
    channels = rows.shape[1]
    if rows.dtype != np.float32:
        pair = np.empty((2, channels))
        norm.norm_sums(rows, _masked(rows, dy, mean, relu), mean, *pair)
        return pair
    affine = relu or (mean, mean)

    def add_up(part: Part) -> np.ndarray:
        pair = np.empty((2, channels))
        mine, work = (rows[part.slice], dy[part.slice], mean), _work(2 * channels)
        part.call(batch_norm.batch_sums, *mine, relu is not None, *affine, work, *pair)
        return pair

    first, *others = each_part(add_up, len(rows), MEMORY_BOUND * channels, are_summed=True)
    for other in others:
        first += other
    return first


class InputGradient:
    """The gradient of a batch norm's input before it is computed: scale * (dy - less - (x - mean) * slope).

    Who made the input can compute it piece by piece, on the way to its own gradients.

    Attributes:
        x, dy: the input, and the gradient of the result: (..., channels).
        masked: whether dy counts only where (x - mean) * scale + shift is positive.
        norm: mean, scale, shift, slope and less: (5, channels).
    """

    def __init__(self, x: np.ndarray, dy: np.ndarray, masked: bool, norm: np.ndarray):
        self.x, self.dy, self.masked, self.norm = x, dy, masked, norm

    def compute(self) -> np.ndarray:
        """Return the gradient, shaped like x."""
        channels = self.norm.shape[1]
        dx = memory.empty(self.x.shape, self.x.dtype)
        x, dy, result = (array.reshape(-1, channels) for array in (self.x, self.dy, dx))
        if x.dtype == np.float32:
            each_part(
                lambda part: part.call(
                    batch_norm.batch_input, x[part.slice], dy[part.slice], self.masked, self.norm, result[part.slice]
                ),
                len(x),
                MEMORY_BOUND * channels,
            )
        else:
            mean, scale, shift, slope, less = self.norm
            dy = _masked(x, dy, mean, (scale, shift) if self.masked else None)
            norm.norm_input(x, dy, mean, scale, slope, less, result)
        return dx


def _masked(rows: np.ndarray, dy: np.ndarray, mean: np.ndarray, relu: Affine | None) -> np.ndarray:
    if relu is None:
        return dy
    y = memory.empty(rows.shape, rows.dtype)
    norm.scale_columns(rows, mean, *relu, y)
    return np.where(y > 0, dy, dy.dtype.type(0))


def _work(size: int) -> np.ndarray:
    return np.empty(size, np.float32)
