"""Operations and their gradients agree with PyTorch's, where it is installed."""

import numpy as np
import pytest

from distdl.ops import activation, conv, linear, loss, norm, pool

torch = pytest.importorskip("torch", reason="PyTorch comes with distdl[bench]")
F = torch.nn.functional
TOLERANCE = 1e-4


def images(tensor):
    """Return NHWC images as NCHW."""
    return tensor.permute(0, 3, 1, 2)


def weights(tensor):
    """Return weights (kh, kw, in, out) as (out, in, kh, kw)."""
    return tensor.permute(3, 2, 0, 1)


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def close(ours, theirs, what):
    scale = max(np.abs(theirs).max(initial=0), 1.0)
    np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=TOLERANCE, err_msg=what)


def check(function, theirs, *arrays, **options):
    """Compare results and all gradients of an operation with those of a function of PyTorch."""
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    expected = theirs(*tensors)
    y, backward = function(*arrays, **options)
    assert y.dtype == np.float32
    close(y, expected.detach().numpy(), "result")
    dy = normal(*y.shape, seed=1)
    expected.backward(torch.tensor(dy))
    gradients = backward(dy, (True,) * len(arrays)) if backward.__code__.co_argcount > 1 else (backward(dy),)
    for i, (gradient, tensor) in enumerate(zip(gradients, tensors, strict=True)):
        assert gradient.dtype == np.float32
        close(gradient, tensor.grad.numpy(), f"gradient {i}")


@pytest.mark.parametrize(
    ("channels", "out", "kernel", "options"),
    [
        (3, 5, (3, 3), {}),
        (32, 64, (3, 3), {"padding": (1, 1)}),
        (4, 6, (3, 2), {"stride": (2, 3), "padding": (2, 1), "dilation": (2, 1)}),
        (4, 8, (3, 3), {"groups": 2, "padding": (1, 1)}),
        (6, 6, (3, 3), {"groups": 6, "stride": (2, 2), "padding": (1, 1)}),
        (3, 6, (5, 3), {"groups": 3, "padding": (2, 1)}),
        (8, 3, (1, 1), {}),
        (8, 3, (1, 1), {"stride": (2, 2)}),
    ],
)
def test_conv2d(channels, out, kernel, options):
    """Stride, padding, dilation and groups mean what they mean to PyTorch."""
    arrays = normal(5, 14, 13, channels), normal(*kernel, channels // options.get("groups", 1), out), normal(out)

    def theirs(x, w, b):
        return F.conv2d(images(x), weights(w), b, **options).permute(0, 2, 3, 1)

    ours = dict(options)
    if "padding" in ours:
        ours["padding"] = tuple((n, n) for n in ours["padding"])
    check(conv.conv2d, theirs, *arrays, **ours)


def test_conv2d_of_an_image_larger_than_a_block():
    """Images whose patches do not fit the working memory are cut into rows, without a seam."""
    x, w = normal(2, 70, 90, 16), normal(3, 3, 16, 8)
    padding = ((1, 1), (1, 1))
    check(
        conv.conv2d, lambda x, w: F.conv2d(images(x), weights(w), padding=1).permute(0, 2, 3, 1), x, w, padding=padding
    )
    strided = lambda x, w: F.conv2d(images(x), weights(w), padding=1, stride=2).permute(0, 2, 3, 1)  # noqa: E731
    check(conv.conv2d, strided, x, w, padding=padding, stride=(2, 2))


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (2, 3, 0), (4, 1, 2)])
def test_pooling(kernel, stride, padding):
    """Maximum and mean of windows, with padding that counts and that does not."""
    x = normal(3, 11, 12, 5)
    ours = {"kernel": (kernel, kernel), "stride": (stride, stride), "padding": (padding, padding)}
    theirs = {"kernel_size": kernel, "stride": stride, "padding": padding}
    check(pool.max_pool2d, lambda x: F.max_pool2d(images(x), **theirs).permute(0, 2, 3, 1), x, **ours)
    for count in (True, False):
        extra = {"count_include_pad": count}
        check(
            pool.avg_pool2d,
            lambda x, e=extra: F.avg_pool2d(images(x), **theirs, **e).permute(0, 2, 3, 1),
            x,
            **ours,
            **extra,
        )


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (13, 2)])
def test_adaptive_pooling(size):
    """The windows are PyTorch's where the sizes do not divide."""
    x = normal(3, 11, 12, 5)
    check(
        pool.adaptive_avg_pool2d,
        lambda x: F.adaptive_avg_pool2d(images(x), size).permute(0, 2, 3, 1),
        x,
        output_size=size,
    )


def test_batch_norm():
    """Batch statistics, their gradient, and given statistics."""
    arrays = 3 + 2 * normal(6, 5, 4, 7), normal(7), normal(7)
    mean, variance = normal(7), 0.5 + np.random.default_rng(0).random(7).astype(np.float32)

    def theirs(training):
        def run(x, w, b):
            given = torch.tensor(mean), torch.tensor(variance)
            return F.batch_norm(images(x), *given, w, b, training=training).permute(0, 2, 3, 1)

        return run

    check(norm.batch_norm, theirs(True), *arrays)
    check(norm.batch_norm, theirs(False), *arrays, use=(mean, variance))


def test_layer_norm():
    """Normalisation over one trailing axis and over several."""
    for extents in ((7,), (4, 7)):
        arrays = 3 + 2 * normal(6, 4, 7), normal(*extents), normal(*extents)
        check(norm.layer_norm, lambda x, w, b, e=extents: F.layer_norm(x, e, w, b), *arrays, shape=extents)


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("relu", {}, F.relu),
        ("leaky_relu", {"negative_slope": 0.1}, lambda x: F.leaky_relu(x, 0.1)),
        ("elu", {"alpha": 0.5}, lambda x: F.elu(x, 0.5)),
        ("gelu", {}, F.gelu),
        ("gelu", {"approximate": "tanh"}, lambda x: F.gelu(x, approximate="tanh")),
        ("silu", {}, F.silu),
        ("sigmoid", {}, torch.sigmoid),
        ("tanh", {}, torch.tanh),
        ("softplus", {"beta": 2.0, "threshold": 5.0}, lambda x: F.softplus(x, 2.0, 5.0)),
    ],
)
def test_activations(name, options, theirs):
    """Activations agree, in the middle, at 0 and far out."""
    x = np.concatenate([3 * normal(500), np.array([0.0, -0.0, 30, -30, 120, -120], np.float32)])
    check(getattr(activation, name), theirs, x, **options)


def test_linear():
    """x @ w + b over the last axis."""
    check(linear.linear, lambda x, w, b: x @ w + b, normal(4, 3, 20), normal(20, 7), normal(7))


def test_softmax():
    """Softmax and its logarithm along any axis."""
    for axis in (0, 1, -1):
        check(loss.softmax, lambda x, a=axis: torch.softmax(x, a), 20 * normal(4, 5, 6), axis=axis)
        check(loss.log_softmax, lambda x, a=axis: torch.log_softmax(x, a), 20 * normal(4, 5, 6), axis=axis)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(reduction, smoothing, weighted):
    """Labels, ignored labels, probabilities, class weights and smoothing, with every reduction."""
    rng = np.random.default_rng(3)
    weight = rng.random(5).astype(np.float32) if weighted else None
    labels = rng.integers(0, 5, (6, 4))
    labels[2, :3] = -100
    soft = rng.dirichlet(np.ones(5), (6, 4)).astype(np.float32)
    for target in (labels, soft):
        swapped = torch.tensor(target if target.ndim == 2 else np.moveaxis(target, -1, 1))
        options = {
            "weight": None if weight is None else torch.tensor(weight),
            "label_smoothing": smoothing,
            "reduction": reduction,
        }
        check(
            loss.cross_entropy,
            lambda x, t=swapped, o=options: F.cross_entropy(x.movedim(-1, 1), t, **o),
            3 * normal(6, 4, 5),
            labels=target,
            weight=weight,
            label_smoothing=smoothing,
            reduction=reduction,
        )
    options = {"weight": None if weight is None else torch.tensor(weight), "reduction": reduction}
    check(
        loss.nll_loss,
        lambda x: F.nll_loss(x.movedim(-1, 1), torch.tensor(labels), **options),
        3 * normal(6, 4, 5),
        labels=labels,
        weight=weight,
        reduction=reduction,
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_of_values(reduction):
    """Squared error, and binary cross-entropy with far logits, weights and weights of positives."""
    x, target = normal(6, 4), np.random.default_rng(4).random((6, 4)).astype(np.float32)
    check(loss.mse_loss, lambda x, t: F.mse_loss(x, t, reduction=reduction), x, target, reduction=reduction)
    weight, positive = 0.5 + target[:, :1], 2 * target[0]
    for extra in ({}, {"weight": weight, "pos_weight": positive}):
        tensors = {name: torch.tensor(value) for name, value in extra.items()}
        check(
            loss.binary_cross_entropy_with_logits,
            lambda x, t, e=tensors: F.binary_cross_entropy_with_logits(x, t, reduction=reduction, **e),
            50 * x,
            target,
            reduction=reduction,
            **extra,
        )
