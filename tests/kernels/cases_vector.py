"""Arguments of the vector kernels of float32: no image, one pixel, edges on every side, all remainders of channels."""

from typing import Any

import numpy as np

from distdl.kernels import tiles, winograd
from distdl.kernels import winograd_weights as weights
from distdl.kernels.simd import LANES

from .cases import Draw, Generator, case, extents, normal, windows


def whole(channels: int) -> int:
    return -(-channels // LANES) * LANES


@case
def pack(rng: Generator, dtype: Any) -> Draw:
    for rows, columns in ((1, 1), (3, 16), (5, 17), (7, 47), (0, 5)):
        yield normal(rng, dtype, rows, columns), normal(rng, dtype, whole(columns) // LANES, rows, LANES)


def direct(rng: Generator, dtype: Any) -> Draw:
    """Yield x, w, (before, stride), result."""
    for inputs, outputs in ((1, 1), (3, 20), (17, 16), (5, 33)):
        for image, kernel, stride, padding, dilation in windows():
            if dilation == (1, 1):
                result = normal(rng, dtype, *extents(image, kernel, stride, padding, dilation), outputs)
                place = (padding[0][0], padding[1][0]), stride
                yield normal(rng, dtype, *image, inputs), normal(rng, dtype, *kernel, inputs, outputs), place, result


def padded(x: np.ndarray, w: np.ndarray, place: Any, y: np.ndarray) -> list[int]:
    """Return the rows and columns that hold an image and all that windows see around it."""
    (before, stride) = place
    return [max(before[i] + x.shape[1 + i], (y.shape[1 + i] - 1) * stride[i] + w.shape[i]) for i in range(2)]


def none(dtype: Any) -> np.ndarray:
    return np.empty((0, 0, 0, 0), dtype)


def pooled(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return windows of 2x2 results, and memory for their taps."""
    shape = (len(y), y.shape[1] // 2, y.shape[2] // 2, y.shape[3])
    return np.empty(shape, y.dtype), np.empty(shape, y.dtype)


def endings(y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return memory for the result, and for that of 2x2 windows where there are some."""
    return [(y, none(y.dtype))] + ([pooled(y)] if min(y.shape[1:3]) > 1 else [])


def moments(y: np.ndarray, taps: np.ndarray) -> Draw:
    """Yield memory for no moments, and for those of a result that is not pooled."""
    for channels in (0,) if taps.size else (0, y.shape[3]):
        yield np.empty(3 * channels, y.dtype), np.zeros(channels), np.zeros(channels)


def windowed(rng: Generator, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return gradients of 2x2 windows, and drawn taps."""
    gradient, taps = pooled(dy)
    return normal(rng, dy.dtype, *gradient.shape), rng.integers(-1, 4, taps.shape).astype(dy.dtype)


@case
def direct_forward(rng: Generator, dtype: Any) -> Draw:
    for x, w, place, y in direct(rng, dtype):
        for relu in (False, True):
            packed = np.empty((whole(w.shape[3]) // LANES, w[..., 0].size, LANES), dtype)
            memory = np.empty((*padded(x, w, place, y), x.shape[3]), dtype)
            for result, taps in endings(y):
                rows = np.empty((4 * result.shape[2], tiles.PANELS, LANES), dtype)
                for taken in moments(result, taps):
                    yield x, w, normal(rng, dtype, w.shape[3]), relu, *place, packed, memory, rows, result, taps, *taken


@case
def direct_input_gradient(rng: Generator, dtype: Any) -> Draw:
    for x, w, (before, stride), dy in direct(rng, dtype):
        for masked in (False, True):
            reach = [(x.shape[1 + i] - 1 + before[i]) // stride[i] + 1 for i in range(2)]
            rows = [(w.shape[i] - 1) // stride[i] + max(dy.shape[1 + i], reach[i]) for i in range(2)]
            packed = np.empty(whole(x.shape[3]) * w[:, :, 0].size, dtype)
            memory = np.empty((*rows, dy.shape[3]), dtype)
            yield dy, normal(rng, dtype, *dy.shape), masked, none(dtype), w, before, stride, packed, memory, x
            if min(dy.shape[1:3]) < 2:
                continue
            gradient, taps = windowed(rng, dy)
            yield gradient, gradient, masked, taps, w, before, stride, packed, memory, x


@case
def direct_weight_gradient(rng: Generator, dtype: Any) -> Draw:
    for x, w, place, dy in direct(rng, dtype):
        for masked in (False, True):
            memory = np.empty((*padded(x, w, place, dy), x.shape[3]), dtype)
            rows = np.empty((dy.shape[1] * dy.shape[2], whole(dy.shape[3])), dtype)
            y, db = normal(rng, dtype, *dy.shape), np.empty(dy.shape[3], dtype)
            yield x, dy, y, masked, none(dtype), *place, memory, rows, w, db
            if min(dy.shape[1:3]) < 2:
                continue
            gradient, taps = windowed(rng, dy)
            yield x, gradient, gradient, masked, taps, *place, memory, rows, w, db


def lines() -> np.ndarray:
    return np.empty(winograd.SPAN * winograd.PLANES * LANES, np.float32)


def planes(count: int, channels: int) -> np.ndarray:
    return np.empty((count, winograd.plane_size(24, whole(channels))), np.float32)


def transformed(rng: Generator, dtype: Any, inputs: int, outputs: int) -> np.ndarray:
    u = np.zeros((winograd.PLANES, winograd.plane_size(inputs, whole(outputs))), dtype)
    weights.winograd_weights(
        normal(rng, dtype, 3, 3, inputs, outputs), False, (0, whole(outputs) // LANES), lines(), block(), u
    )
    return u


def block() -> np.ndarray:
    return np.empty(9 * LANES * LANES, np.float32)


@case
def winograd_weights(rng: Generator, dtype: Any) -> Draw:
    for inputs, outputs in ((1, 1), (16, 16), (5, 35), (35, 5)):
        for exchanged in (False, True):
            shape = (outputs, inputs) if exchanged else (inputs, outputs)
            u = normal(rng, dtype, winograd.PLANES, winograd.plane_size(inputs, whole(outputs)))
            panels = whole(outputs) // LANES
            for part in ((0, panels), (panels - 1, panels)):
                yield normal(rng, dtype, 3, 3, *shape), exchanged, part, lines(), block(), u


@case
def winograd_weight_gradient(rng: Generator, dtype: Any) -> Draw:
    for inputs, outputs in ((1, 1), (16, 16), (5, 35)):
        du = normal(rng, dtype, winograd.PLANES, winograd.plane_size(inputs, whole(outputs)))
        yield du, lines(), normal(rng, dtype, 3, 3, inputs, outputs)


def convolved(rng: Generator, dtype: Any) -> Draw:
    """Yield x, before, result."""
    for image, out, before in (
        ((2, 8, 8), (8, 8), (1, 1)),
        ((0, 8, 8), (8, 8), (1, 1)),
        ((3, 5, 9), (5, 9), (1, 1)),
        ((1, 1, 1), (1, 1), (1, 1)),
        ((2, 7, 6), (5, 4), (0, 0)),
        ((1, 6, 3), (8, 7), (2, 4)),
        ((30, 4, 4), (4, 4), (1, 1)),
        ((2, 6, 37), (6, 37), (1, 1)),
    ):
        for inputs, outputs in ((16, 16), (17, 40), (1, 3)):
            yield normal(rng, dtype, *image, inputs), before, normal(rng, dtype, image[0], *out, outputs)


@case
def winograd_forward(rng: Generator, dtype: Any) -> Draw:
    for x, before, y in convolved(rng, dtype):
        u = transformed(rng, dtype, x.shape[3], y.shape[3])
        memory = planes(winograd.PLANES + 1, max(x.shape[3], y.shape[3]))
        for relu in (False, True):
            # Of equal values, as where windows lie outside the image, rounding chooses.
            for result, taps in endings(y)[: 1 if max(before) > 1 else 2]:
                for taken in moments(result, taps):
                    yield x, u, normal(rng, dtype, y.shape[3]), relu, before, memory, lines(), result, taps, *taken


@case
def winograd_backward(rng: Generator, dtype: Any) -> Draw:
    for x, before, dy in convolved(rng, dtype):
        u = transformed(rng, dtype, dy.shape[3], x.shape[3])
        memory = [planes(winograd.PLANES, max(x.shape[3], dy.shape[3])) for _ in range(2)]
        du = normal(rng, dtype, winograd.PLANES, winograd.plane_size(x.shape[3], whole(dy.shape[3])))
        db = normal(rng, dtype, whole(dy.shape[3]))
        db[dy.shape[3] :] = 0
        arguments = x, dy, normal(rng, dtype, *dy.shape)
        empty, nothing, room = none(dtype), np.empty((0, 0), dtype), np.empty(0, dtype)
        own = memory + [lines(), room]
        yield *arguments, True, nothing, empty, u, before, *own, False, x.copy(), du, db
        yield *arguments, False, nothing, empty, u, before, *own, True, x.copy(), nothing, db
        yield *arguments, False, nothing, empty, nothing, before, *own, False, empty, du, db[:0]
        norm, room = normal(rng, dtype, 5, dy.shape[3]), np.empty(dy[0].size if len(dy) else 0, dtype)
        for masked in (False, True):
            yield *arguments, masked, norm, empty, u, before, *memory, lines(), room, masked, x.copy(), du, db
        if min(dy.shape[1:3]) > 1:
            gradient, taps = windowed(rng, dy)
            yield x, gradient, empty, True, nothing, taps, u, before, *own, False, x.copy(), du, db


def products(rng: Generator, dtype: Any) -> Draw:
    """Yield x, w, y of a linear layer."""
    for rows, inputs, outputs in ((1, 1, 1), (0, 3, 4), (5, 7, 9), (30, 33, 48), (600, 20, 17), (7, 16, 16)):
        yield normal(rng, dtype, rows, inputs), normal(rng, dtype, inputs, outputs), normal(rng, dtype, rows, outputs)


def parts(count: int) -> list[tuple[int, int]]:
    """Return the whole, and parts such as two threads get."""
    middle = count // 2 // LANES * LANES
    return [(0, count), (0, middle), (middle, count)]


@case
def linear_forward(rng: Generator, dtype: Any) -> Draw:
    for x, w, y in products(rng, dtype):
        for relu in (False, True):
            for part in parts(w.shape[1]):
                yield (
                    x,
                    w,
                    normal(rng, dtype, w.shape[1]),
                    relu,
                    part,
                    np.empty((tiles.PANELS, w.shape[0], LANES), dtype),
                    y,
                )


@case
def linear_input_gradient(rng: Generator, dtype: Any) -> Draw:
    for x, w, dy in products(rng, dtype):
        for part in parts(w.shape[0]):
            yield dy, w, part, np.empty((tiles.PANELS, whole(w.shape[1]), LANES), dtype), x


@case
def linear_weight_gradient(rng: Generator, dtype: Any) -> Draw:
    for x, w, dy in products(rng, dtype):
        for part in parts(w.shape[0]):
            panels, strip = (whole(w.shape[1]) // LANES, 513, LANES), 512 * tiles.ROWS + LANES
            yield x, dy, part, np.empty(panels, dtype), np.empty(strip, dtype), w


@case
def relu_gradient(rng: Generator, dtype: Any) -> Draw:
    for rows, columns in ((1, 1), (0, 4), (5, 3), (300, 17), (9, 32)):
        yield *(normal(rng, dtype, rows, columns) for _ in range(3)), normal(rng, dtype, columns)


ROWS = ((1, 1), (5, 3), (300, 17), (1000, 32), (129, 16), (9, 1001))


@case
def batch_moments(rng: Generator, dtype: Any) -> Draw:
    for shape in ROWS:
        work = np.empty(3 * shape[1], dtype)
        yield 30 + normal(rng, dtype, *shape), work, np.empty(shape[1]), np.empty(shape[1])


@case
def batch_scale(rng: Generator, dtype: Any) -> Draw:
    for shape in (*ROWS, (0, 4), (1 << 14, 32), ((1 << 16) + 1, 9)):
        for relu in (False, True):
            vectors = [normal(rng, dtype, shape[1]) for _ in range(3)]
            yield normal(rng, dtype, *shape), *vectors, relu, np.empty(shape, dtype)


@case
def batch_sums(rng: Generator, dtype: Any) -> Draw:
    for shape in (*ROWS, (0, 4)):
        for masked in (False, True):
            x, dy = normal(rng, dtype, *shape), normal(rng, dtype, *shape)
            mean, scale, shift = (normal(rng, dtype, shape[1]) for _ in range(3))
            work = np.empty(2 * shape[1], dtype)
            yield x, dy, mean, masked, scale, shift, work, np.empty(shape[1]), np.empty(shape[1])


@case
def batch_input(rng: Generator, dtype: Any) -> Draw:
    for shape in (*ROWS, (0, 4)):
        for masked in (False, True):
            x, dy = normal(rng, dtype, *shape), normal(rng, dtype, *shape)
            yield x, dy, masked, normal(rng, dtype, 5, shape[1]), np.empty(shape, dtype)


HALVED = ((2, 6, 6, 3), (0, 6, 6, 3), (1, 7, 5, 16), (3, 2, 3, 33))


@case
def halve_forward(rng: Generator, dtype: Any) -> Draw:
    for shape in HALVED:
        x = rng.integers(-3, 3, shape).astype(dtype)
        yield x, *pooled(x)


@case
def halve_backward(rng: Generator, dtype: Any) -> Draw:
    for shape in HALVED:
        x = normal(rng, dtype, *shape)
        yield *windowed(rng, x), x
