"""The transforms of Winograd's F(4x4, 3x3) on vectors of channels: lines of six values, and whole tiles.

The matrices are those of `winograd.py`, multiplied out.
"""

import numpy as np

from .registry import inlined
from .simd import LANES, add, at_least, fill, fma, load, mul, store, sub, where_positive, zero
from .tiles import get, get_masked, put
from .windows import gradient_at, put_greatest

_f = np.float32


@inlined
def input_line(a, b, c, d, e, f):  # type: ignore[no-untyped-def]
    """B' times six values."""
    four = fill(_f(4))
    t, u = fma(fill(_f(-4)), c, e), fma(fill(_f(-4)), b, d)
    v, w = sub(e, c), mul(fill(_f(2)), sub(d, b))
    first = fma(fill(_f(-5)), c, fma(four, a, e))
    last = fma(fill(_f(-5)), d, fma(four, b, f))
    return first, add(t, u), sub(t, u), add(v, w), sub(v, w), last


@inlined
def input_line_adjoint(a, b, c, d, e, f):  # type: ignore[no-untyped-def]
    """B times six values."""
    four = fill(_f(4))
    s, t, u, v = add(b, c), sub(c, b), add(d, e), sub(e, d)
    second = fma(four, add(t, f), mul(fill(_f(2)), v))
    third = sub(fma(fill(_f(-5)), a, mul(fill(_f(-4)), s)), u)
    fourth = sub(fma(fill(_f(-5)), f, mul(fill(_f(-2)), v)), t)
    return mul(four, a), second, third, fourth, add(add(a, s), u), f


@inlined
def output_line(a, b, c, d, e, f):  # type: ignore[no-untyped-def]
    """A' times six values."""
    s, t, u, v = add(b, c), sub(b, c), add(d, e), sub(d, e)
    return add(add(a, s), u), fma(fill(_f(2)), v, t), fma(fill(_f(4)), u, s), add(fma(fill(_f(8)), v, t), f)


@inlined
def output_line_adjoint(a, b, c, d):  # type: ignore[no-untyped-def]
    """A times four values."""
    even, odd = add(a, c), add(b, d)
    even2, odd2 = fma(fill(_f(4)), c, a), fma(fill(_f(8)), d, mul(fill(_f(2)), b))
    return a, add(even, odd), sub(even, odd), add(even2, odd2), sub(even2, odd2), d


@inlined
def weight_line(a, b, c):  # type: ignore[no-untyped-def]
    """G times three values."""
    s = mul(fill(_f(-1 / 6)), add(a, c))
    t = mul(fill(_f(1 / 6)), b)
    u = fma(fill(_f(1 / 24)), a, mul(fill(_f(1 / 6)), c))
    v = mul(fill(_f(1 / 12)), b)
    return mul(fill(_f(0.25)), a), sub(s, t), add(s, t), add(u, v), sub(u, v), c


@inlined
def weight_line_adjoint(a, b, c, d, e, f):  # type: ignore[no-untyped-def]
    """G' times six values."""
    s, t, u, v = add(b, c), sub(c, b), add(d, e), sub(d, e)
    first = fma(fill(_f(1 / 24)), u, fma(fill(_f(-1 / 6)), s, mul(fill(_f(0.25)), a)))
    second = fma(fill(_f(1 / 12)), v, mul(fill(_f(1 / 6)), t))
    return first, second, fma(fill(_f(1 / 6)), sub(u, s), f)


@inlined
def load6(array, at, step):  # type: ignore[no-untyped-def]
    return (
        load(array, at),
        load(array, at + step),
        load(array, at + 2 * step),
        load(array, at + 3 * step),
        load(array, at + 4 * step),
        load(array, at + 5 * step),
    )


@inlined
def store4(array, at, step, vectors):  # type: ignore[no-untyped-def]
    a, b, c, d = vectors
    store(array, at, a)
    store(array, at + step, b)
    store(array, at + 2 * step, c)
    store(array, at + 3 * step, d)


@inlined
def store6(array, at, step, vectors):  # type: ignore[no-untyped-def]
    a, b, c, d, e, f = vectors
    store(array, at, a)
    store(array, at + step, b)
    store(array, at + 2 * step, c)
    store(array, at + 3 * step, d)
    store(array, at + 4 * step, e)
    store(array, at + 5 * step, f)


@inlined
def _pixel(x, at, inside, lanes):  # type: ignore[no-untyped-def]
    return get(x, at, lanes) if inside else zero()


@inlined
def _clear(t, first, last):  # type: ignore[no-untyped-def]
    """Write zeros to columns `first` to `last` of six lines each."""
    for at in range(first * 6 * LANES, last * 6 * LANES, LANES):
        store(t, at, zero())


@inlined
def read_input(x, image, height, width, channels, top, left, c, count, t, v, v0, next_tile, plane):  # type: ignore[no-untyped-def]
    """Write B' d B of the 6x6 pixels from (top, left), sixteen channels from c, to the planes of v.

    So for `count` tiles, four columns apart, whose elements lie `next_tile` apart: the columns that two tiles
    share are read once. Each way of reading has a loop of its own: where branches meet, the compiler would join
    what they store, twelve vectors, and send it through memory.
    """
    lanes = channels - c
    step = width * channels
    first, last, end = min(max(0, -left), 4 * count + 2), min(max(0, width - left), 4 * count + 2), 4 * count + 2
    _clear(t, 0, first)
    _clear(t, last, end)
    start = image + (top * width + left) * channels + c
    if (top >= 0) & (top + 6 <= height):
        for j in range(first, last):
            at = start + j * channels
            column = input_line(
                get(x, at, lanes),
                get(x, at + step, lanes),
                get(x, at + 2 * step, lanes),
                get(x, at + 3 * step, lanes),
                get(x, at + 4 * step, lanes),
                get(x, at + 5 * step, lanes),
            )
            store6(t, j * 6 * LANES, LANES, column)
    else:
        for j in range(first, last):
            at = start + j * channels
            column = input_line(
                _pixel(x, at, (top >= 0) & (top < height), lanes),
                _pixel(x, at + step, (top >= -1) & (top < height - 1), lanes),
                _pixel(x, at + 2 * step, (top >= -2) & (top < height - 2), lanes),
                _pixel(x, at + 3 * step, (top >= -3) & (top < height - 3), lanes),
                _pixel(x, at + 4 * step, (top >= -4) & (top < height - 4), lanes),
                _pixel(x, at + 5 * step, (top >= -5) & (top < height - 5), lanes),
            )
            store6(t, j * 6 * LANES, LANES, column)
    for number in range(count):
        at, target = number * 24 * LANES, v0 + number * next_tile
        for i in range(6):
            row = input_line(*load6(t, at + i * LANES, 6 * LANES))
            store6(v, target + i * 6 * plane, plane, row)


@inlined
def write_output(m, m0, plane, t, start, floor, y, image, height, width, channels, top, left, c):  # type: ignore[no-untyped-def]
    """Write A' M A + start, at least `floor`, to the 4x4 results from (top, left) that lie in the image."""
    lanes = channels - c
    for j in range(6):
        store4(t, j * LANES, 6 * LANES, output_line(*load6(m, m0 + j * plane, 6 * plane)))
    for i in range(min(4, height - top)):
        p, q, r, s = output_line(*load6(t, i * 6 * LANES, LANES))
        at = image + ((top + i) * width + left) * channels + c
        put(y, at, at_least(add(p, start), floor), lanes)
        if left + 1 < width:
            put(y, at + channels, at_least(add(q, start), floor), lanes)
        if left + 2 < width:
            put(y, at + 2 * channels, at_least(add(r, start), floor), lanes)
        if left + 3 < width:
            put(y, at + 3 * channels, at_least(add(s, start), floor), lanes)


@inlined
def write_greatest(m, m0, plane, t, start, relu, y, taps, image, height, width, channels, top, left, c):  # type: ignore[no-untyped-def]
    """Write the greatest values of the 2x2 windows of A' M A, and their places; extents and place are the windows'."""
    lanes = channels - c
    for j in range(6):
        store4(t, j * LANES, 6 * LANES, output_line(*load6(m, m0 + j * plane, 6 * plane)))
    for i in range(min(2, height - top)):
        a, b, d, e = output_line(*load6(t, 2 * i * 6 * LANES, LANES))
        f, g, h, k = output_line(*load6(t, (2 * i + 1) * 6 * LANES, LANES))
        at = image + ((top + i) * width + left) * channels + c
        put_greatest(a, b, f, g, start, relu, y, taps, at, lanes)
        if left + 1 < width:
            put_greatest(d, e, h, k, start, relu, y, taps, at + channels, lanes)


@inlined
def _slope(dy, y, at, lanes, masked):  # type: ignore[no-untyped-def]
    gradient = get_masked(dy, at, lanes)
    return where_positive(get_masked(y, at, lanes), gradient) if masked else gradient


@inlined
def _transform_gradient(p, q, r, s, j, t):  # type: ignore[no-untyped-def]
    store6(t, j * LANES, 4 * LANES, output_line_adjoint(p, q, r, s))
    return add(add(p, q), add(r, s))


@inlined
def _finish_gradient(t, m, m0, plane):  # type: ignore[no-untyped-def]
    for i in range(6):
        k = i * 4 * LANES
        row = output_line_adjoint(load(t, k), load(t, k + LANES), load(t, k + 2 * LANES), load(t, k + 3 * LANES))
        store6(m, m0 + i * 6 * plane, plane, row)


@inlined
def read_gradient(dy, y, masked, image, height, width, channels, top, left, c, t, m, m0, plane):  # type: ignore[no-untyped-def]
    """Write A dY A' of the 4x4 gradients from (top, left) to the planes of m; return their sum over pixels.

    Gradients outside the image are 0, and, if `masked`, so are those where y is not positive.
    """
    lanes = channels - c
    total = zero()
    step = width * channels
    for j in range(4):
        at = image + (top * width + left + j) * channels + c
        p = q = r = s = zero()
        if left + j < width:
            p = _slope(dy, y, at, lanes, masked)
            if top + 1 < height:
                q = _slope(dy, y, at + step, lanes, masked)
            if top + 2 < height:
                r = _slope(dy, y, at + 2 * step, lanes, masked)
            if top + 3 < height:
                s = _slope(dy, y, at + 3 * step, lanes, masked)
        total = add(total, _transform_gradient(p, q, r, s, j, t))
    _finish_gradient(t, m, m0, plane)
    return total


@inlined
def read_window_gradient(dy, taps, image, height, width, channels, top, left, c, t, m, m0, plane):  # type: ignore[no-untyped-def]
    """Do what `read_gradient` does for gradients of 2x2 windows, each of which goes to its greatest value."""
    lanes = channels - c
    total = zero()
    step = width * channels
    for j in range(4):
        at = image + (top * width + left + j // 2) * channels + c
        first, second = np.float32(j % 2), np.float32(2 + j % 2)
        p = q = r = s = zero()
        if left + j // 2 < width:
            p, q = gradient_at(dy, taps, at, first, lanes), gradient_at(dy, taps, at, second, lanes)
            if top + 1 < height:
                at += step
                r, s = gradient_at(dy, taps, at, first, lanes), gradient_at(dy, taps, at, second, lanes)
        total = add(total, _transform_gradient(p, q, r, s, j, t))
    _finish_gradient(t, m, m0, plane)
    return total


@inlined
def _add_to(x, at, inside, before, vector, lanes):  # type: ignore[no-untyped-def]
    """Add to a pixel, if it is inside the image, what the tile before has for it, and then a vector."""
    if inside:
        put(x, at, add(add(get(x, at, lanes), before), vector), lanes)


@inlined
def add_input(v, v0, next_tile, plane, t, dx, image, height, width, channels, top, left, c, count):  # type: ignore[no-untyped-def]
    """Add B dV B' to the 6x6 pixels from (top, left) that lie in the image; so for `count` tiles, four columns apart.

    Two columns of a tile are the next one's too: they are written with its own. The order of the sums is the same
    wherever a row of tiles is cut.
    """
    lanes = channels - c
    for number in range(count):
        start, source = number * 36 * LANES, v0 + number * next_tile
        for j in range(6):
            store6(t, start + j * 6 * LANES, LANES, input_line_adjoint(*load6(v, source + j * plane, 6 * plane)))
    for i in range(max(0, -top), min(6, height - top)):
        first, second = zero(), zero()
        row = image + (top + i) * width * channels + c
        w = left
        for number in range(count):
            a, b, d, e, f, g = input_line_adjoint(*load6(t, (number * 36 + i) * LANES, 6 * LANES))
            at = row + w * channels
            _add_to(dx, at, (w >= 0) & (w < width), first, a, lanes)
            _add_to(dx, at + channels, (w >= -1) & (w + 1 < width), second, b, lanes)
            _add_to(dx, at + 2 * channels, (w >= -2) & (w + 2 < width), zero(), d, lanes)
            _add_to(dx, at + 3 * channels, (w >= -3) & (w + 3 < width), zero(), e, lanes)
            first, second = f, g
            w += 4
        at = row + w * channels
        _add_to(dx, at, (w >= 0) & (w < width), zero(), first, lanes)
        _add_to(dx, at + channels, (w >= -1) & (w + 1 < width), zero(), second, lanes)
