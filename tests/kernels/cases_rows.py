"""Arguments of the kernels of float32 that work on rows of a matrix, or element by element, with vectors."""

from typing import Any

import numpy as np

from .cases import (
    SIZES,
    Draw,
    Generator,
    case,
    max_pool_backward,
    max_pool_forward,
    mean_pool_backward,
    mean_pool_forward,
    normal,
)

CLASSES = ((1, 1), (6, 3), (50, 10), (0, 4), (3, 1000), (5, 16), (4, 33))


@case
def softmax_rows(rng: Generator, dtype: Any) -> Draw:
    for shape in CLASSES:
        yield 20 * normal(rng, dtype, *shape), np.empty(shape, dtype)


@case
def softmax_rows_backward(rng: Generator, dtype: Any) -> Draw:
    for shape in CLASSES:
        yield normal(rng, dtype, *shape), normal(rng, dtype, *shape), np.empty(shape, dtype)


@case
def cross_entropy_rows(rng: Generator, dtype: Any) -> Draw:
    for rows, classes in CLASSES:
        for smoothing in (0.0, 0.1):
            labels = rng.integers(0, classes, rows)
            labels[1::3] = -100
            weight = rng.random(classes).astype(dtype)
            weight[classes // 2 + 1 :: 4] = 0
            logits = 5 * normal(rng, dtype, rows, classes)
            yield logits, labels, weight, -100, smoothing, np.empty(rows, dtype), np.empty((rows, classes), dtype)


def sloped(rng: Generator, dtype: Any) -> Draw:
    """Yield x and memory for a result and its derivative."""
    for size in SIZES:
        yield 4 * normal(rng, dtype, size), np.empty(size, dtype), np.empty(size, dtype)


@case
def gelu_vectors(rng: Generator, dtype: Any) -> Draw:
    yield from sloped(rng, dtype)


@case
def tanh_gelu(rng: Generator, dtype: Any) -> Draw:
    yield from sloped(rng, dtype)


@case
def silu(rng: Generator, dtype: Any) -> Draw:
    yield from sloped(rng, dtype)


@case
def sigmoid(rng: Generator, dtype: Any) -> Draw:
    for x, y, _ in sloped(rng, dtype):
        yield 5 * x, y


@case
def max_pool_vectors(rng: Generator, dtype: Any) -> Draw:
    for *arguments, tap in max_pool_forward(rng, dtype):
        yield *arguments, tap.astype(dtype)


@case
def max_pool_vectors_backward(rng: Generator, dtype: Any) -> Draw:
    for dy, tap, *arguments in max_pool_backward(rng, dtype):
        yield dy, tap.astype(dtype), *arguments


@case
def mean_pool_vectors(rng: Generator, dtype: Any) -> Draw:
    yield from mean_pool_forward(rng, dtype)


@case
def mean_pool_vectors_backward(rng: Generator, dtype: Any) -> Draw:
    yield from mean_pool_backward(rng, dtype)


@case
def sum_narrow_rows(rng: Generator, dtype: Any) -> Draw:
    for rows, columns in ((1, 1), (0, 4), (6, 3), (300, 17), (1000, 32)):
        yield normal(rng, dtype, rows, columns), np.empty(columns)
