"""The weights of Winograd's convolution (`winograd.py`): their transform, and its adjoint for their gradient."""

import numpy as np

from .registry import helper, kernel
from .simd import LANES, load, store, transpose
from .taps import Pair
from .tiles import get, put
from .winograd import PLANES, weight_panels
from .winograd_lines import load6, store6, weight_line, weight_line_adjoint

_G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24


def _winograd_weights(
    w: np.ndarray, exchanged: bool, part: Pair, lines: np.ndarray, block: np.ndarray, u: np.ndarray
) -> None:
    weights = w.swapaxes(2, 3) if exchanged else w
    planes = np.einsum("ai,bj,ijck->abck", _G, _G, weights).reshape(PLANES, weights.shape[2], weights.shape[3])
    panels = weight_panels(u, weights.shape[2])
    for panel in range(*part):
        panels[:, panel] = 0
        own = planes[:, :, panel * LANES : (panel + 1) * LANES]
        panels[:, panel, :, : own.shape[2]] = own


@kernel(reference=_winograd_weights, types=("float32",), working=("lines", "block"))
def winograd_weights(w, exchanged, part, lines, block, u):  # type: ignore[no-untyped-def]
    """u = G w G', plane by plane as panels of sixteen outputs; of w with inputs and outputs `exchanged` if so told.

    w (3, 3, inputs, outputs), or (3, 3, outputs, inputs) if exchanged; part: first panel and the one behind the
    last, only these are written; u (36, plane size of inputs and of outputs rounded up to 16). Working memory:
    lines (36 * 16,), block (9 * 16 * 16,).
    """
    inputs, outputs = (w.shape[3], w.shape[2]) if exchanged else (w.shape[2], w.shape[3])
    source, target, plane = w.reshape(-1), u.reshape(-1), u.shape[1]
    tap = inputs * outputs
    for k in range(part[0] * LANES, part[1] * LANES, LANES):
        for c in range(0, inputs, LANES):
            count = min(LANES, inputs - c)
            if exchanged:
                for number in range(9):
                    start = number * tap + k * inputs + c
                    transpose(source, start, inputs, outputs - k, count, block, number * LANES * LANES)
            for i in range(count):
                at = k * inputs + (c + i) * LANES
                if exchanged:
                    _transform(block, i * LANES, LANES * LANES, LANES, lines, target, at, plane)
                else:
                    _transform(source, (c + i) * outputs + k, tap, outputs - k, lines, target, at, plane)


@helper
def _transform(w, at, tap, lanes, lines, u, u0, plane):  # type: ignore[no-untyped-def]
    """Write G g G' of the nine vectors that lie `tap` floats apart to the planes of u."""
    for j in range(3):
        first = at + j * tap
        column = weight_line(get(w, first, lanes), get(w, first + 3 * tap, lanes), get(w, first + 6 * tap, lanes))
        store6(lines, j * LANES, 3 * LANES, column)
    for i in range(6):
        k = i * 3 * LANES
        values = weight_line(load(lines, k), load(lines, k + LANES), load(lines, k + 2 * LANES))
        store6(u, u0 + i * 6 * plane, plane, values)


def _winograd_weight_gradient(du: np.ndarray, lines: np.ndarray, dw: np.ndarray) -> None:
    planes = du[:, :-LANES].reshape(6, 6, dw.shape[2], -1)[..., : dw.shape[3]]
    dw[...] = np.einsum("ai,bj,abck->ijck", _G, _G, planes)


@kernel(reference=_winograd_weight_gradient, types=("float32",), working=("lines",))
def winograd_weight_gradient(du, lines, dw):  # type: ignore[no-untyped-def]
    """dw = G' du G; du (36, plane size of inputs and of outputs rounded up to 16), dw (3, 3, inputs, outputs)."""
    inputs, outputs = dw.shape[2], dw.shape[3]
    width = -(-outputs // LANES) * LANES
    source, target, plane = du.reshape(-1), dw.reshape(-1), du.shape[1]
    for c in range(inputs):
        for k in range(0, width, LANES):
            for j in range(6):
                column = load6(source, j * plane + c * width + k, 6 * plane)
                p, q, r = weight_line_adjoint(*column)
                store(lines, j * LANES, p)
                store(lines, (6 + j) * LANES, q)
                store(lines, (12 + j) * LANES, r)
            for i in range(3):
                p, q, r = weight_line_adjoint(*load6(lines, i * 6 * LANES, LANES))
                at = (i * 3 * inputs + c) * outputs + k
                put(target, at, p, outputs - k)
                put(target, at + inputs * outputs, q, outputs - k)
                put(target, at + 2 * inputs * outputs, r, outputs - k)
