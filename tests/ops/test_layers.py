"""What the operations of layers promise beyond their gradients."""

import numpy as np
import pytest

import distdl.ops.loss  # noqa: F401 - registers its operations
from distdl.core import random
from distdl.core.errors import ArgumentError, ArgumentTypeError
from distdl.ops.activation import gelu, relu, sigmoid, softplus
from distdl.ops.conv import conv2d
from distdl.ops.dropout import dropout
from distdl.ops.linear import linear
from distdl.ops.norm import batch_norm, layer_norm
from distdl.ops.pool import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from distdl.ops.registry import OPS

from . import cases_layers, cases_loss

CASES = {**cases_layers.CASES, **cases_loss.CASES}


def normal(*shape, dtype=np.float32):
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(dtype)


def single(value):
    """Return arrays of float64 as float32, within tuples too."""
    if isinstance(value, tuple):
        return tuple(map(single, value))
    return value.astype(np.float32) if isinstance(value, np.ndarray) and value.dtype == np.float64 else value


@pytest.mark.parametrize("name", sorted(CASES))
def test_float32_stays_float32(name):
    """No operation promotes float32, forward or backward, and its values are those of float64."""
    for case in CASES[name]:
        args = single(case.args)
        y, backward = OPS[name](*args, **{key: single(value) for key, value in case.options.items()})
        expected, backward64 = OPS[name](*case.args, **case.options)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
        dy = np.cos(np.arange(y.size)).reshape(y.shape)
        wanted = tuple(arg is not None for arg in args)
        both = []
        for function, gradient in ((backward, dy.astype(np.float32)), (backward64, dy)):
            result = function(gradient, wanted) if function.__code__.co_argcount > 1 else function(gradient)
            both.append(result if isinstance(result, tuple) else (result,))
        for ours, theirs, want in zip(*both, wanted, strict=True):
            if want:
                assert ours.dtype == np.float32
                np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"groups": 2}, {"groups": 4}])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 1)])
def test_a_weight_gradient_is_written_where_it_belongs(options, kernel):
    """Where `wanted` is an array, the weight gradient is written there, over what was there."""
    x, w = normal(3, 5, 5, 4), normal(*kernel, 4 // options.get("groups", 1), 8)
    y, backward = conv2d(x, w, **options)
    expected = backward(y, (False, True))[1]
    buffer = np.full(w.shape, np.nan, np.float32)
    dx, dw = backward(y, (False, buffer))
    assert dx is None
    assert dw is buffer
    np.testing.assert_array_equal(buffer, expected)


@pytest.mark.parametrize(
    ("kernel", "groups", "extent"), [((3, 3), 1, 7), ((3, 3), 2, 6), ((3, 3), 8, 6), ((1, 1), 1, 5), ((3, 3), 1, 61)]
)
def test_an_image_does_not_depend_on_its_batch(kernel, groups, extent):
    """Results and input gradients of an image have the same bits, alone and in any batch."""
    x, w = normal(9, extent, extent, 8), normal(*kernel, 8 // groups, 8)
    y, backward = conv2d(x, w, groups=groups)
    dy = normal(*y.shape)
    dx = backward(dy, (True, False))[0]
    for rows in (slice(0, 1), slice(2, 5), slice(8, 9)):
        alone, backward = conv2d(x[rows], w, groups=groups)
        np.testing.assert_array_equal(alone, y[rows])
        np.testing.assert_array_equal(backward(dy[rows], (True, False))[0], dx[rows])


def test_linear_writes_its_weight_gradient_where_it_belongs():
    """The product goes straight into the buffer."""
    y, backward = linear(normal(6, 4), normal(4, 3), normal(3))
    buffer = np.full((4, 3), np.nan, np.float32)
    dx, dw, db = backward(y, (False, buffer, False))
    assert dx is None
    assert db is None
    assert dw is buffer
    np.testing.assert_array_equal(buffer, backward(y, (True, True, True))[1])


def test_read_only_and_strided_arrays_are_taken():
    """Memory-mapped rows are read-only, and gradients may be broadcast views: both give what plain arrays give."""
    x, w, b = normal(2, 6, 6, 4), normal(3, 3, 4, 2), normal(2)
    y, backward = conv2d(x, w, b)
    locked = x.copy()
    locked.flags.writeable = False
    strided = np.asfortranarray(x)
    dy = np.broadcast_to(normal(2), y.shape)
    expected = backward(dy.copy(), (True, True, True))
    for other in (locked, strided):
        again, backward = conv2d(other, np.asfortranarray(w), b)
        np.testing.assert_array_equal(again, y)
        for ours, theirs in zip(backward(dy, (True, True, True)), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_nan_is_seen():
    """A NaN in the input reaches the output of ReLU, pooling and normalisation."""
    x = normal(2, 4, 4, 3)
    x[0, 1, 1, 1] = np.nan
    for y in (
        relu(x)[0],
        max_pool2d(x, kernel=(2, 2), stride=(2, 2))[0],
        avg_pool2d(x, kernel=(2, 2), stride=(2, 2))[0],
        batch_norm(x)[0],
        layer_norm(x, shape=(3,))[0],
    ):
        assert np.isnan(y).any()
        assert not np.isnan(y).all()


def test_far_inputs_do_not_overflow():
    """Activations of large numbers are finite, without a warning."""
    x = np.array([-1e4, -100, 0, 100, 1e4], np.float32)
    np.testing.assert_allclose(sigmoid(x)[0], [0, 0, 0.5, 1, 1], atol=1e-7)
    np.testing.assert_allclose(softplus(x)[0], [0, 0, np.log(2), 100, 1e4], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(gelu(x)[0], [0, 0, 0, 100, 1e4], rtol=1e-6, atol=1e-7)


def test_batch_statistics_are_handed_out():
    """The layer gets mean and biased variance; an empty batch leaves its arrays alone."""
    x = 5 + normal(40, 3)
    mean, variance = np.full(3, 7, np.float32), np.full(3, 8, np.float32)
    batch_norm(x[:0], stats=(mean, variance))
    np.testing.assert_array_equal([mean, variance], [[7] * 3, [8] * 3])
    batch_norm(x, stats=(mean, variance))
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(variance, x.var(axis=0), rtol=1e-5)


def test_long_sums_do_not_drift():
    """Statistics and bias gradients of 200,000 float32 rows are exact to a few parts in a million."""
    x = 100 + normal(200_000, 2)
    mean, variance = np.empty(2, np.float32), np.empty(2, np.float32)
    batch_norm(x, stats=(mean, variance))
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(axis=0), rtol=2e-6)
    np.testing.assert_allclose(variance, wide.var(axis=0), rtol=1e-5)
    _, backward = linear(x[:, :1], np.ones((1, 2), np.float32), np.zeros(2, np.float32))
    np.testing.assert_allclose(backward(x, (False, False, True))[2], wide.sum(axis=0), rtol=2e-6)


def test_dropout_is_keyed_by_sample():
    """A sample drops the same values in any batch; another epoch, key or sample drops others."""
    key = random.key("dropout", 1)
    x = np.ones((4, 50), np.float32)
    y = dropout(x, p=0.5, key=key, epoch=2, samples=np.array([7, 8, 9, 7]))[0]
    np.testing.assert_array_equal(y[0], y[3])
    assert (y[0] != y[1]).any()
    alone = dropout(x[:1], p=0.5, key=key, epoch=2, samples=np.array([9]))[0]
    np.testing.assert_array_equal(alone[0], y[2])
    for options in ({"key": key, "epoch": 3}, {"key": random.key("dropout", 2), "epoch": 2}):
        assert (dropout(x[:1], p=0.5, samples=np.array([9]), **options)[0] != alone).any()


def test_dropout_keeps_the_mean():
    """The share of zeros is p, and what is kept is divided by 1 - p."""
    x = np.ones((100, 1000), np.float32)
    y = dropout(x, p=0.3, key=random.key("dropout"), epoch=0, samples=np.arange(100))[0]
    assert abs((y == 0).mean() - 0.3) < 0.01
    np.testing.assert_allclose(y[y != 0], 1 / 0.7, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: conv2d(normal(64, 1, 28, 28), normal(3, 3, 1, 8)),
            r"`x` \(shape \(64, 1, 28, 28\)\) must be \(N, H, W, 1\): images are NHWC, weights \(kh, kw, in_channels",
        ),
        (lambda: conv2d(normal(28, 28, 1), normal(3, 3, 1, 8)), r"must be \(N, H, W, 1\)"),
        (lambda: conv2d(normal(2, 2, 8, 1), normal(3, 3, 1, 8)), r"padded height \(=2\) >= 3"),
        (lambda: conv2d(normal(2, 8, 4, 1), normal(3, 3, 1, 8), dilation=(1, 2)), r"padded width \(=4\) >= 5"),
        (
            lambda: conv2d(normal(2, 8, 8, 1), normal(3, 3, 8)),
            r"`w` \(shape \(3, 3, 8\)\) must be \(kh, kw, in_channels",
        ),
        (lambda: conv2d(normal(2, 8, 8, 3), normal(3, 3, 1, 8), groups=3), r"`groups` \(=3\) must divide .* \(=8\)"),
        (lambda: conv2d(normal(2, 8, 8, 1), normal(3, 3, 1, 8), normal(4)), r"`b` \(shape \(4,\)\) must be \(8,\)"),
        (lambda: linear(normal(2, 8), normal(7, 3)), r"`x` \(shape \(2, 8\)\) must be \(..., 7\)"),
        (lambda: linear(normal(2, 8), normal(8)), r"`w` \(shape \(8,\)\) must be \(in_features, out_features\)"),
        (lambda: max_pool2d(normal(2, 8, 8), kernel=(2, 2), stride=(2, 2)), r"must be \(N, H, W, C\): images are NHWC"),
        (lambda: max_pool2d(normal(2, 8, 2, 1), kernel=(3, 3), stride=(1, 1)), r"padded width \(=2\) >= 3"),
        (
            lambda: avg_pool2d(normal(2, 8, 8, 1), kernel=(3, 3), stride=(1, 1), padding=(0, 2)),
            r"`padding` \(=\(0, 2\)\) must be at most half",
        ),
        (lambda: adaptive_avg_pool2d(normal(2, 8, 8), output_size=(1, 1)), r"must be \(N, H, W, C\)"),
        (lambda: adaptive_avg_pool2d(normal(2, 0, 8, 1), output_size=(1, 1)), r"must have a pixel or more"),
        (lambda: batch_norm(normal(2, 3), normal(4), normal(3)), r"`weight` \(shape \(4,\)\) must be \(3,\)"),
        (lambda: layer_norm(normal(2, 3), shape=(4,)), r"`x` \(shape \(2, 3\)\) must be \(..., 4\)"),
        (lambda: gelu(normal(2), approximate="erf"), r"`approximate` \(='erf'\) must be one of"),
        (
            lambda: dropout(normal(2, 3), p=1.5, key=random.key("d"), epoch=0, samples=np.arange(2)),
            r"`p` \(=1.5\) must be <= 1",
        ),
        (
            lambda: dropout(normal(2, 3), p=0.5, key=random.key("d"), epoch=0, samples=np.arange(3)),
            r"`samples` \(shape \(3,\)\) must be \(2,\)",
        ),
    ],
)
def test_wrong_shapes_are_named(call, message):
    """The message has the argument, the shape received and the shape expected."""
    with pytest.raises(ArgumentError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: relu(np.arange(3)), r"`x` \(dtype int64\) must be float32 or float64"),
        (
            lambda: conv2d(normal(1, 3, 3, 1), normal(3, 3, 1, 1, dtype=np.float64)),
            r"`x` .* the type of `w`, float64",
        ),
        (
            lambda: linear(normal(1, 3, dtype=np.float64), normal(3, 1)),
            r"`x` \(dtype float64\) must have the type of `w`, float32: x.astype\(np.float32\)",
        ),
    ],
)
def test_wrong_types_are_named(call, message):
    """Integers are no activations, and two float types do not mix."""
    with pytest.raises(ArgumentTypeError, match=message):
        call()


def test_targets_of_binary_cross_entropy_are_probabilities():
    """Targets outside [0, 1], and NaN, are refused."""
    bce = OPS["binary_cross_entropy_with_logits"]
    for wrong in (-0.1, 1.5, np.nan):
        with pytest.raises(ArgumentError, match=r"`target` .* must be within \[0, 1\]"):
            bce(normal(3), np.array([0, 1, wrong], np.float32))
