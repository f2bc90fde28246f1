"""Convolution of images: patches unfolded into a matrix, one matrix product for a block of images."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..core.errors import ArgumentError
from ..kernels.conv import fold, unfold
from ..kernels.registry import dense
from ..kernels.scratch import scratch
from .checking import IMAGES, bad_shape, check_images, check_like
from .registry import op

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

# Unfolded patches of one block of images stay in the second-level cache.
_BLOCK_BYTES = 1 << 20


class _Geometry:
    """The extents of one convolution, and its images cut into blocks.

    The size of a block depends on the shape of one image only, so that an image is worked on alike
    in every batch.
    """

    def __init__(self, x: np.ndarray, w: np.ndarray, stride: Pair, padding: Padding, dilation: Pair, groups: int):
        self.images = x.shape
        self.kernel = w.shape[:2]
        self.groups = groups
        self.inputs, self.outputs = w.shape[2], w.shape[3] // groups
        self.stride, self.dilation = stride, dilation
        self.before = (padding[0][0], padding[1][0])
        extents = []
        for axis, name in enumerate(("height", "width")):
            room = x.shape[1 + axis] + sum(padding[axis])
            reach = dilation[axis] * (self.kernel[axis] - 1) + 1
            if room < reach:
                raise ArgumentError(
                    f"`x` (shape {x.shape}) must have a padded {name} (={room}) >= {reach}, the kernel's reach: {IMAGES}"
                )
            extents.append((room - reach) // stride[axis] + 1)
        self.out = (extents[0], extents[1])
        self.pixels = extents[0] * extents[1]
        self.depth = self.kernel[0] * self.kernel[1] * self.inputs
        self.is_product = self.kernel == stride == (1, 1) and padding == ((0, 0), (0, 0)) and groups == 1
        self.block = max(1, _BLOCK_BYTES // max(1, self.pixels * self.depth * x.itemsize))

    def blocks(self) -> Iterator[slice]:
        """Yield the slices of the batch that are worked on at once."""
        for start in range(0, self.images[0], self.block):
            yield slice(start, min(start + self.block, self.images[0]))

    def columns(self, images: slice, dtype: Any) -> np.ndarray:
        """Return working memory for the patches of a block, of one group."""
        shape = (images.stop - images.start, *self.out, *self.kernel, self.inputs)
        return scratch("conv2d patches", shape, dtype)

    def place(self, group: int) -> tuple[Any, ...]:
        """Return what `unfold` and `fold` need to know of a group."""
        return group * self.inputs, self.before, self.stride, self.dilation


def _forward(g: _Geometry, x: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    y = np.empty((g.images[0], g.pixels, g.groups, g.outputs), x.dtype)
    for images in g.blocks():
        columns = g.columns(images, x.dtype)
        for group in range(g.groups):
            unfold(x[images], *g.place(group), columns)
            out = y[images].reshape(-1, g.groups, g.outputs)[:, group]
            np.matmul(columns.reshape(-1, g.depth), matrices[group], out=out)
    return y


def _input_gradient(g: _Geometry, dy: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    dx = np.zeros(g.images, dy.dtype)
    for images in g.blocks():
        columns = g.columns(images, dy.dtype)
        for group in range(g.groups):
            rows = dy[images].reshape(-1, g.groups, g.outputs)[:, group]
            np.matmul(rows, matrices[group].T, out=columns.reshape(-1, g.depth))
            fold(columns, *g.place(group), dx[images])
    return dx


def _weight_gradient(g: _Geometry, x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> None:
    dw.fill(0)
    total = dw.reshape(g.depth, g.groups, g.outputs)
    part = scratch("conv2d weights", (g.depth, g.outputs), x.dtype)
    for images in g.blocks():
        columns = g.columns(images, x.dtype)
        for group in range(g.groups):
            unfold(x[images], *g.place(group), columns)
            rows = dy[images].reshape(-1, g.groups, g.outputs)[:, group]
            np.matmul(columns.reshape(-1, g.depth).T, rows, out=part)
            total[:, group] += part


@op
def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Any:
    """Cross-correlate images with weights, as PyTorch's Conv2d.

    Args:
        x: images (N, H, W, in_channels).
        w: weights (kh, kw, in_channels // groups, out_channels).
        b: bias (out_channels,) or None.
        stride, dilation: (height, width), at least 1.
        padding: zeros added, ((top, bottom), (left, right)).
        groups: the channels are cut into so many groups; outputs of a group see its inputs only.

    Returns:
        Images (N, out height, out width, out_channels).
    """
    _check(x, w, b, groups)
    g = _Geometry(x, w, stride, padding, dilation, groups)
    x = dense(x)
    matrices = np.moveaxis(w.reshape(g.depth, groups, g.outputs), 1, 0)
    y = np.matmul(x.reshape(-1, g.inputs), matrices[0]) if g.is_product else _forward(g, x, matrices)
    y = y.reshape(x.shape[0], *g.out, w.shape[3])
    if b is not None:
        y += b

    def backward(dy: np.ndarray, wanted: Any) -> Any:
        dy = dense(dy)
        rows = dy.reshape(-1, w.shape[3])
        dx = dw = db = None
        if wanted[0] is not False:
            dx = np.matmul(rows, matrices[0].T).reshape(x.shape) if g.is_product else _input_gradient(g, dy, matrices)
        if wanted[1] is not False:
            dw = wanted[1] if isinstance(wanted[1], np.ndarray) else np.empty(w.shape, w.dtype)
            if g.is_product:
                np.matmul(x.reshape(-1, g.inputs).T, rows, out=dw.reshape(g.inputs, -1))
            else:
                _weight_gradient(g, x, dy, dw)
        if len(wanted) > 2 and wanted[2] is not False:
            db = rows.sum(axis=0)
        return (dx, dw, db)[: len(wanted)]

    return y, backward


def _check(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, groups: int) -> None:
    if w.ndim != 4:
        raise bad_shape("w", w, "(kh, kw, in_channels // groups, out_channels)", IMAGES)
    if w.shape[3] % groups:
        raise ArgumentError(f"`groups` (={groups}) must divide the output channels (={w.shape[3]})")
    check_images(x, w.shape[2] * groups)
    check_like("w", w, x, w.shape)
    if b is not None:
        check_like("b", b, x, (w.shape[3],), "one bias for each output channel")
