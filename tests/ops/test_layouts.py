"""How arrays lie in memory, and what else is in a batch, change no result."""

import numpy as np
import pytest

from distdl.ops.activation import gelu, relu, sigmoid, silu
from distdl.ops.loss import cross_entropy, softmax
from distdl.ops.pool import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from distdl.ops.registry import OPS

from . import cases_layers, cases_loss
from .test_layers import single

CASES = {**cases_layers.CASES, **cases_loss.CASES}


def locked(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def every_other(array):
    """Return a view of every other element, along all axes, of an array with NaN between."""
    room = np.full([2 * extent for extent in array.shape], np.nan, array.dtype)
    view = room[(slice(1, None, 2),) * array.ndim]
    view[...] = array
    return view


def backwards(array):
    """Return a view with negative strides."""
    return array[(slice(None, None, -1),) * array.ndim].copy()[(slice(None, None, -1),) * array.ndim]


LAYOUTS = {
    "fortran": np.asfortranarray,
    "read-only": locked,
    "strided": every_other,
    "backwards": backwards,
}


def laid_out(value, layout):
    is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim > 0
    return LAYOUTS[layout](value) if is_float else value


def passes(name, args, options, layout=None):
    """Return the result and the gradients of an operation, for arguments and a gradient of a layout."""
    arrange = (lambda value: value) if layout is None else (lambda value: laid_out(value, layout))
    y, backward = OPS[name](*map(arrange, args), **{key: arrange(value) for key, value in options.items()})
    dy = arrange(np.cos(np.arange(y.size, dtype=y.dtype)).reshape(y.shape))
    wanted = tuple(arg is not None for arg in args)
    gradients = backward(dy, wanted) if backward.__code__.co_argcount > 1 else backward(dy)
    return [y, *(gradients if isinstance(gradients, tuple) else (gradients,))]


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("name", sorted(CASES))
def test_layouts_change_no_result(name, layout):
    """Views with any strides and read-only arrays give what plain arrays give, forward and backward, empty or not."""
    for case in CASES[name]:
        for convert in (lambda value: value, single):
            args, options = convert(case.args), {key: convert(value) for key, value in case.options.items()}
            for ours, theirs in zip(passes(name, args, options, layout), passes(name, args, options), strict=True):
                if theirs is None:
                    assert ours is None
                else:
                    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


IMAGES = np.random.default_rng(3).standard_normal((9, 11, 10, 37)).astype(np.float32)
ROWS = np.random.default_rng(4).standard_normal((9, 37)).astype(np.float32)
LABELS = np.random.default_rng(5).integers(0, 37, 9)
OF_SAMPLES = {
    "relu": (IMAGES, lambda x, rows: relu(x)),
    "gelu": (IMAGES, lambda x, rows: gelu(x)),
    "tanh gelu": (IMAGES, lambda x, rows: gelu(x, approximate="tanh")),
    "silu": (IMAGES, lambda x, rows: silu(x)),
    "sigmoid": (IMAGES, lambda x, rows: sigmoid(x)),
    "softmax": (ROWS, lambda x, rows: softmax(x)),
    "cross entropy": (ROWS, lambda x, rows: cross_entropy(x, labels=LABELS[rows], reduction="none")),
    "smooth": (ROWS, lambda x, rows: cross_entropy(x, labels=LABELS[rows], label_smoothing=0.1, reduction="none")),
    "halving": (IMAGES, lambda x, rows: max_pool2d(x, kernel=(2, 2), stride=(2, 2))),
    "max": (IMAGES, lambda x, rows: max_pool2d(x, kernel=(3, 3), stride=(2, 2), padding=(1, 1))),
    "mean": (IMAGES, lambda x, rows: avg_pool2d(x, kernel=(3, 3), stride=(2, 2), padding=(1, 1))),
    "adaptive": (IMAGES, lambda x, rows: adaptive_avg_pool2d(x, output_size=(3, 4))),
}


@pytest.mark.parametrize("name", sorted(OF_SAMPLES))
def test_a_sample_does_not_depend_on_its_batch(name):
    """Results and gradients of a sample have the same bits, alone and in any batch."""
    x, function = OF_SAMPLES[name]
    y, backward = function(x, slice(None))
    dy = np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape)
    dx = backward(dy)
    for rows in (slice(0, 1), slice(2, 5), slice(8, 9)):
        alone, backward = function(x[rows], rows)
        np.testing.assert_array_equal(alone, y[rows])
        np.testing.assert_array_equal(backward(dy[rows]), dx[rows])
