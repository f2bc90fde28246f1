"""What the references of convolutions share: which values the tap of a kernel sees."""

from collections.abc import Iterator
from typing import Any

import numpy as np

Pair = tuple[int, int]


def taps(
    image: np.ndarray, out: np.ndarray, kernel: tuple[int, ...], before: Pair, stride: Pair, dilation: Pair
) -> Iterator[tuple[int, int, Any, Any]]:
    """Yield (i, j, index of the results whose tap (i, j) lies inside the image, index of what it sees there).

    Args:
        image: (n, height, width, ...).
        out: (n, out height, out width, ...).
        kernel: (height, width).
        before: how far above and left of the image the first window starts.
        stride, dilation: (height, width).
    """
    images = np.arange(image.shape[0])
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            results, seen = [], []
            for axis, tap in enumerate((i, j)):
                places = np.arange(out.shape[1 + axis]) * stride[axis] - before[axis] + tap * dilation[axis]
                results.append(np.nonzero((places >= 0) & (places < image.shape[1 + axis]))[0])
                seen.append(places[results[axis]])
            yield i, j, np.ix_(images, *results), np.ix_(images, *seen)
