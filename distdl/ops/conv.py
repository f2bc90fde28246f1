"""Convolution of images."""

import functools
from typing import Any

import numpy as np

from ..core import memory, settings, threads
from ..core.errors import ArgumentError
from ..kernels.registry import dense
from ..kernels.taps import Pair
from .batch import InputGradient, Moments
from .checking import IMAGES, bad_shape, check_images, check_like
from .conv_algorithms import Algorithm, choose
from .conv_ending import Ending
from .conv_geometry import Extents, Geometry, Padding
from .registry import Onto, op


@op(joins_norm=True, adds=True)
def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
    relu: bool = False,
    pool: bool = False,
    exact: bool = False,
    moments: Moments | None = None,
) -> Any:
    """Cross-correlate images with weights, as PyTorch's Conv2d.

    Args:
        x: images (N, H, W, in_channels).
        w: weights (kh, kw, in_channels // groups, out_channels).
        b: bias (out_channels,) or None.
        stride, dilation: (height, width), at least 1.
        padding: zeros added, ((top, bottom), (left, right)).
        groups: the channels are cut into so many groups; outputs of a group see its inputs only.
        relu: whether max(., 0) follows.
        pool: whether the greatest value of each 2x2 window follows then; what no whole window holds is left out.
        moments: gets those of the result, if they can be taken on the way: not where sums are fixed, which one thread
            takes.
        exact: leave Winograd's algorithm out, which rounds about ten times as much as the others.

    Returns:
        Images (N, out height, out width, out_channels); half as high and wide, rounded down, if `pool`.
    """
    _check(x, w, b, groups)
    exact = exact or settings.exact()
    geometry, algorithm = _plan(x.shape, w.shape, stride, padding, dilation, groups, x.dtype, exact, pool)
    x, w = dense(x), dense(w)
    ending = Ending(geometry, x.dtype, relu, pool, None if threads.sums_are_fixed() else moments)
    y = algorithm.forward(x, w, None if b is None else dense(b), ending)

    def backward(dy: np.ndarray, wanted: Any, behind: np.ndarray | InputGradient | None = None) -> Any:
        dw = None
        if wanted[1] is not False:
            dw = wanted[1] if isinstance(wanted[1], np.ndarray) else memory.empty(w.shape, w.dtype)
        onto: Any = wanted[0] is not False
        if type(wanted[0]) is Onto and algorithm.adds:
            onto = wanted[0].sums
        dx, db = algorithm.backward(x, w, *ending.joined(dense(dy), behind, algorithm.joins_norm), onto, dw)
        return (dx, dw, db)[: len(wanted)]

    return y, backward


@functools.lru_cache(1024)
def _plan(
    x: Extents,
    w: Extents,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    dtype: np.dtype,
    exact: bool,
    pool: bool,
) -> tuple[Geometry, Algorithm]:
    """Return the extents of a convolution and its algorithm, the same ones for each step."""
    geometry = Geometry(x, w, stride, padding, dilation, groups)
    return geometry, choose(geometry, dtype, exact, pool)


def _check(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, groups: int) -> None:
    if w.ndim != 4 or not w.size:
        raise bad_shape("w", w, "(kh, kw, in_channels // groups, out_channels)", IMAGES)
    if w.shape[3] % groups:
        raise ArgumentError(f"`groups` (={groups}) must divide the output channels (={w.shape[3]})")
    check_images(x, w.shape[2] * groups)
    check_like("w", w, x, w.shape)
    if b is not None:
        check_like("b", b, x, (w.shape[3],), "one bias for each output channel")
