"""The weights of Winograd's convolution (`winograd.py`): their transform, and its adjoint for their gradient."""

import numpy as np

from .registry import kernel
from .simd import LANES, load, store
from .tiles import get, put
from .winograd import PLANES
from .winograd_lines import load6, store6, weight_line, weight_line_adjoint

_G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24


def _winograd_weights(w: np.ndarray, lines: np.ndarray, u: np.ndarray) -> None:
    planes = np.einsum("ai,bj,ijck->abck", _G, _G, w).reshape(PLANES, w.shape[2], w.shape[3])
    u.fill(0)
    for panel in range(u.shape[1]):
        part = planes[:, :, panel * LANES : (panel + 1) * LANES]
        u[:, panel, :, : part.shape[2]] = part


@kernel(reference=_winograd_weights, types=("float32",), working=("lines",))
def winograd_weights(w, lines, u):  # type: ignore[no-untyped-def]
    """u = G w G', plane by plane as panels: w (3, 3, inputs, outputs); u (36, panels of the outputs, inputs, 16)."""
    inputs, outputs = w.shape[2], w.shape[3]
    source, target = w.reshape(-1), u.reshape(-1)
    plane, row = u.shape[1] * inputs * LANES, 3 * inputs * outputs
    for panel in range(u.shape[1]):
        lanes = outputs - panel * LANES
        for c in range(inputs):
            for j in range(3):
                at = (j * inputs + c) * outputs + panel * LANES
                column = weight_line(
                    get(source, at, lanes), get(source, at + row, lanes), get(source, at + 2 * row, lanes)
                )
                store6(lines, j * LANES, 3 * LANES, column)
            for i in range(6):
                at = i * 3 * LANES
                values = weight_line(load(lines, at), load(lines, at + LANES), load(lines, at + 2 * LANES))
                store6(target, i * 6 * plane + (panel * inputs + c) * LANES, plane, values)


def _winograd_weight_gradient(du: np.ndarray, lines: np.ndarray, dw: np.ndarray) -> None:
    planes = du.reshape(6, 6, *du.shape[1:])[..., : dw.shape[3]]
    dw[...] = np.einsum("ai,bj,abck->ijck", _G, _G, planes)


@kernel(reference=_winograd_weight_gradient, types=("float32",), working=("lines",))
def winograd_weight_gradient(du, lines, dw):  # type: ignore[no-untyped-def]
    """dw = G' du G; du (36, inputs, outputs rounded up to 16), dw (3, 3, inputs, outputs)."""
    inputs, outputs = dw.shape[2], dw.shape[3]
    width = du.shape[2]
    source, target = du.reshape(-1), dw.reshape(-1)
    for c in range(inputs):
        for k in range(0, width, LANES):
            for j in range(6):
                column = load6(source, (j * inputs + c) * width + k, 6 * inputs * width)
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
