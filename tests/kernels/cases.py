"""Arguments of every kernel, drawn: odd extents, no rows, strides longer than the kernel, pads on one side."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Draw = Iterator[tuple[Any, ...]]
Generator = np.random.Generator

CASES: dict[str, Callable[[Generator, Any], Draw]] = {}

SIZES = (0, 1, 7, 64, 1001)
STREAMED = (*SIZES, 1 << 19, (1 << 19) + 5)
"""With sizes that are written past the caches, where an array begins at a cache line."""
MATRICES = ((1, 1), (5, 3), (300, 17), (1000, 32))
NO_ROWS = ((0, 4),)


def case(function: Callable[[Generator, Any], Draw]) -> Callable[[Generator, Any], Draw]:
    """Register a function that draws arguments for the kernel of its name."""
    CASES[function.__name__] = function
    return function


def normal(rng: Generator, dtype: Any, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def normal_with_nan(rng: Generator, dtype: Any, size: int) -> np.ndarray:
    x = normal(rng, dtype, size)
    x[::7] = np.nan
    return x


@case
def relu_forward(rng: Generator, dtype: Any) -> Draw:
    for size in SIZES:
        yield normal_with_nan(rng, dtype, size), np.empty(size, dtype)


@case
def relu_backward(rng: Generator, dtype: Any) -> Draw:
    for size in SIZES:
        for slope in (0.0, 0.1, -0.5):
            yield slope, normal(rng, dtype, size), normal(rng, dtype, size), np.empty(size, dtype)


@case
def relu_vectors(rng: Generator, dtype: Any) -> Draw:
    for size in STREAMED:
        yield normal_with_nan(rng, dtype, size), np.empty(size, dtype)


@case
def relu_backward_vectors(rng: Generator, dtype: Any) -> Draw:
    for size in STREAMED:
        yield normal_with_nan(rng, dtype, size), normal(rng, dtype, size), np.empty(size, dtype)


@case
def add_vectors(rng: Generator, dtype: Any) -> Draw:
    for size in STREAMED:
        yield normal(rng, dtype, size), normal(rng, dtype, size), np.empty(size, dtype)


@case
def gelu(rng: Generator, dtype: Any) -> Draw:
    for size in SIZES:
        yield 4 * normal(rng, dtype, size), np.empty(size, dtype), np.empty(size, dtype)


@case
def sum_rows(rng: Generator, dtype: Any) -> Draw:
    for rows, columns in MATRICES + NO_ROWS:
        yield normal(rng, dtype, rows, columns), np.empty(columns)


@case
def moments(rng: Generator, dtype: Any) -> Draw:
    for rows, columns in MATRICES:
        yield 3 + normal(rng, dtype, rows, columns), np.empty(columns, dtype), np.empty(columns, dtype)


@case
def scale_columns(rng: Generator, dtype: Any) -> Draw:
    for rows, columns in MATRICES + NO_ROWS:
        vectors = [normal(rng, dtype, columns) for _ in range(3)]
        yield normal(rng, dtype, rows, columns), *vectors, np.empty((rows, columns), dtype)


@case
def norm_sums(rng: Generator, dtype: Any) -> Draw:
    for shape in MATRICES + NO_ROWS:
        x, dy, mean = normal(rng, dtype, *shape), normal(rng, dtype, *shape), normal(rng, dtype, shape[1])
        yield x, dy, mean, np.empty(shape[1]), np.empty(shape[1])


@case
def norm_input(rng: Generator, dtype: Any) -> Draw:
    for shape in MATRICES + NO_ROWS:
        vectors = [normal(rng, dtype, shape[1]) for _ in range(4)]
        yield normal(rng, dtype, *shape), normal(rng, dtype, *shape), *vectors, np.empty(shape, dtype)


@case
def layer_norm(rng: Generator, dtype: Any) -> Draw:
    for rows, columns in ((1, 2), (5, 3), (30, 17), (10, 320), (0, 4)):
        weight, bias = normal(rng, dtype, columns), normal(rng, dtype, columns)
        outputs = np.empty((rows, columns), dtype), np.empty(rows, dtype), np.empty(rows, dtype)
        yield normal(rng, dtype, rows, columns), weight, bias, 1e-3, *outputs


@case
def layer_norm_backward(rng: Generator, dtype: Any) -> Draw:
    for rows, columns in ((1, 2), (5, 3), (30, 17), (10, 320), (0, 4)):
        shape = rows, columns
        rowwise = normal(rng, dtype, rows), 0.5 + rng.random(rows).astype(dtype)
        outputs = np.empty(shape, dtype), np.empty(columns), np.empty(columns)
        yield normal(rng, dtype, *shape), normal(rng, dtype, *shape), normal(rng, dtype, columns), *rowwise, *outputs


@case
def cross_entropy(rng: Generator, dtype: Any) -> Draw:
    for rows, classes in ((1, 1), (6, 3), (50, 10), (0, 4), (3, 1000)):
        for smoothing in (0.0, 0.1):
            labels = rng.integers(0, classes, rows)
            labels[1::3] = -100
            weight = rng.random(classes).astype(dtype)
            weight[classes // 2 + 1 :: 4] = 0
            shifted = -5 * rng.random((rows, classes)).astype(dtype)
            yield shifted, labels, weight, -100, smoothing, np.empty(rows, dtype), np.exp(shifted)


@case
def dropout_mask(rng: Generator, dtype: Any) -> Draw:
    for rows, values in ((1, 1), (5, 3), (4, 16), (0, 4), (3, 0), (7, 101)):
        for threshold, scale in ((2**31, 2.0), (0, 1.0), (2**32, 0.0), (2**30, 4 / 3)):
            samples = rng.integers(0, 2**62, rows)
            keys = tuple(int(word) for word in rng.integers(0, 2**32, 2))
            yield *keys, int(rng.integers(0, 2**32)), samples, threshold, scale, np.empty((rows, values), dtype)


@case
def sgd_update(rng: Generator, dtype: Any) -> Draw:
    for size in SIZES:
        for momentum in (0.0, 0.9):
            for nesterov in (False, True):
                for first in (False, True):
                    arrays = [normal(rng, dtype, size) for _ in range(3)]
                    yield *arrays, 0.1, momentum, 0.0 if nesterov else 0.3, 1e-2, nesterov, first
    yield normal(rng, dtype, 9), normal(rng, dtype, 9), np.empty(0, dtype), 0.1, 0.0, 0.0, 0.0, False, False


@case
def average_update(rng: Generator, dtype: Any) -> Draw:
    for size in SIZES:
        for decay in (0.0, 0.5, 0.999, 1.0):
            yield normal(rng, dtype, size), normal(rng, dtype, size), decay


@case
def adam_update(rng: Generator, dtype: Any) -> Draw:
    for size in SIZES:
        for decoupled in (False, True):
            for step in (1, 100):
                arrays = [normal(rng, dtype, size) for _ in range(3)] + [rng.random(size).astype(dtype)]
                yield *arrays, 1e-2, 0.9, 0.999, 1e-8, 0.1, decoupled, 1 - 0.9**step, 1 - 0.999**step


def windows() -> Iterator[tuple[Any, ...]]:
    """Yield (n, height, width), kernel, stride, (before, after) by axis, dilation."""
    yield (2, 5, 5), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)
    yield (0, 5, 5), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)
    yield (1, 7, 4), (2, 3), (2, 1), ((0, 0), (0, 0)), (1, 1)
    yield (3, 9, 8), (2, 2), (3, 4), ((0, 0), (1, 0)), (1, 1)
    yield (2, 9, 7), (3, 2), (2, 1), ((2, 1), (0, 3)), (2, 3)
    yield (1, 1, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)


def extents(image: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[int, int, int]:
    """Return the images, height and width of what windows give."""
    out = [
        (image[1 + axis] + sum(padding[axis]) - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
        for axis in range(2)
    ]
    return image[0], out[0], out[1]


def unfoldings(rng: Generator, dtype: Any) -> Draw:
    """Yield image, first channel, (before, stride, dilation), columns."""
    for channels, first, part in ((1, 0, 1), (4, 0, 4), (6, 2, 3)):
        for image, kernel, stride, padding, dilation in windows():
            before = padding[0][0], padding[1][0]
            columns = normal(rng, dtype, *extents(image, kernel, stride, padding, dilation), *kernel, part)
            yield normal(rng, dtype, *image, channels), first, (before, stride, dilation), columns
    # A block that starts in the middle of an image.
    yield normal(rng, dtype, 2, 9, 5, 2), 0, ((-4, 1), (2, 1), (1, 1)), normal(rng, dtype, 2, 2, 5, 3, 3, 2)


@case
def unfold(rng: Generator, dtype: Any) -> Draw:
    for image, first, place, columns in unfoldings(rng, dtype):
        yield image, first, *place, columns


@case
def fold(rng: Generator, dtype: Any) -> Draw:
    for image, first, place, columns in unfoldings(rng, dtype):
        yield columns, first, *place, image


def depthwise(rng: Generator, dtype: Any) -> Draw:
    """Yield image, weights, (before, stride, dilation), result."""
    for image, kernel, stride, padding, dilation in windows():
        for channels in (1, 5):
            place = (padding[0][0], padding[1][0]), stride, dilation
            result = normal(rng, dtype, *extents(image, kernel, stride, padding, dilation), channels)
            yield normal(rng, dtype, *image, channels), normal(rng, dtype, *kernel, channels), place, result


@case
def depthwise_forward(rng: Generator, dtype: Any) -> Draw:
    for image, weights, place, result in depthwise(rng, dtype):
        yield image, weights, *place, result


@case
def depthwise_input_gradient(rng: Generator, dtype: Any) -> Draw:
    for image, weights, place, result in depthwise(rng, dtype):
        yield result, weights, *place, image


@case
def depthwise_weight_gradient(rng: Generator, dtype: Any) -> Draw:
    for image, weights, place, result in depthwise(rng, dtype):
        yield image, result, *place, weights


def max_pools(rng: Generator, dtype: Any) -> Draw:
    """Yield image, (kernel, stride, padding), shape of the result."""
    for shape, kernel, stride, padding in (
        ((2, 6, 6, 3), (2, 2), (2, 2), (0, 0)),
        ((0, 6, 6, 3), (2, 2), (2, 2), (0, 0)),
        ((1, 7, 5, 1), (3, 2), (2, 1), (1, 1)),
        ((3, 9, 8, 17), (2, 3), (3, 4), (1, 0)),
        ((1, 4, 4, 2), (4, 4), (1, 1), (2, 2)),
        ((2, 7, 6, 16), (3, 3), (2, 2), (1, 1)),
        ((1, 8, 9, 4), (2, 2), (3, 3), (0, 0)),
    ):
        out = [(shape[1 + axis] + 2 * padding[axis] - kernel[axis]) // stride[axis] + 1 for axis in range(2)]
        # Few different values: equal ones must give the gradient to the first.
        image = rng.integers(-3, 3, shape).astype(dtype)
        yield image, (kernel, stride, padding), (shape[0], *out, shape[3])


@case
def max_pool_forward(rng: Generator, dtype: Any) -> Draw:
    for image, window, shape in max_pools(rng, dtype):
        yield image, *window, np.empty(shape, dtype), np.empty(shape, np.int32)
        image[:, 1::2, ::2] = np.nan
        image[:, 2] = -np.inf
        yield image, *window, np.empty(shape, dtype), np.empty(shape, np.int32)


@case
def max_pool_backward(rng: Generator, dtype: Any) -> Draw:
    from distdl.kernels.pool import max_pool_forward

    for image, window, shape in max_pools(rng, dtype):
        tap = np.empty(shape, np.int32)
        max_pool_forward(image, *window, np.empty(shape, dtype), tap)
        yield normal(rng, dtype, *shape), tap, *window, np.empty(image.shape, dtype)


def mean_pools(rng: Generator) -> Draw:
    """Yield shape of the image, (rows, columns, divisor), shape of the result."""
    for n, channels in ((2, 3), (0, 1), (1, 16), (2, 33), (1, 81)):
        rows = np.array([[0, 2], [1, 4], [3, 7]])
        columns = np.array([[0, 3], [5, 6]])
        yield (n, 7, 6, channels), (rows, columns, 1 + rng.random((3, 2))), (n, 3, 2, channels)
        # Windows that lie apart, with gaps and without.
        for apart in ([[0, 2], [2, 5], [6, 7]], [[0, 1], [1, 5], [5, 7]]):
            columns = np.array([[0, 3], [3, 6]])
            yield (n, 7, 6, channels), (np.array(apart), columns, 1 + rng.random((3, 2))), (n, 3, 2, channels)


@case
def mean_pool_forward(rng: Generator, dtype: Any) -> Draw:
    for image, window, shape in mean_pools(rng):
        yield normal(rng, dtype, *image), *window, np.empty(shape, dtype)


@case
def mean_pool_backward(rng: Generator, dtype: Any) -> Draw:
    for image, window, shape in mean_pools(rng):
        yield normal(rng, dtype, *shape), *window, np.empty(image, dtype)
