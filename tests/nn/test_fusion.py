"""Sequential joins a ReLU with the layer before it: nobody can tell, but by the clock and the timeline."""

import numpy as np
import pytest

import distdl
from distdl import nn
from distdl.core import threads
from distdl.ops import batch

LAYERS = {
    "conv 3x3": (lambda: nn.Conv2d(16, 16, 3, padding=1), (2, 12, 12, 16)),
    "conv first": (lambda: nn.Conv2d(3, 8, 3, padding="same", bias=False), (2, 9, 9, 3)),
    "conv strided": (lambda: nn.Conv2d(4, 6, 3, stride=2), (2, 9, 9, 4)),
    "conv depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), (2, 9, 9, 4)),
    "batch norm 2d": (lambda: nn.BatchNorm2d(6), (3, 4, 4, 6)),
    "batch norm 1d": (lambda: nn.BatchNorm1d(7), (5, 7)),
    "batch norm evaluated": (lambda: nn.BatchNorm2d(6).eval(), (3, 4, 4, 6)),
    "linear": (lambda: nn.Linear(7, 33), (5, 7)),
    "linear without bias": (lambda: nn.Linear(7, 33, bias=False), (5, 7)),
}


def operations(model, x):
    """Return the result, and the names of the operations that ran."""
    with distdl.timeline() as timeline:
        y = model(distdl.tensor(x))
    return y, [span.label for span in timeline.spans if span.phase == "forward"]


def train_once(model, x):
    x = distdl.tensor(x, requires_grad=True)
    y = model(x)
    rng = np.random.default_rng(3)
    y.backward(rng.normal(size=y.shape).astype(y.dtype))
    return [y.data, x.grad, *[parameter.grad for parameter in model.parameters()]]


def drawn(shape, dtype="float32"):
    return np.random.default_rng(2).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_joined_and_apart_have_the_same_bits(name, dtype):
    """Result and all gradients are those of the layer and the ReLU one after the other."""
    make, shape = LAYERS[name]
    distdl.manual_seed(0)
    model = nn.Sequential(make(), nn.ReLU()).astype(dtype)
    x = drawn(shape, dtype)
    joined = train_once(model, x)
    assert len(operations(model, x)[1]) == 1
    model[1].register_forward_hook(lambda module, args, result: None)
    assert len(operations(model, x)[1]) == 2
    for parameter in model.parameters():
        parameter.grad = None
    for ours, theirs in zip(joined, train_once(model, x), strict=True):
        np.testing.assert_array_equal(ours, theirs)


POOLED = {name: LAYERS[name] for name in ("conv 3x3", "conv first", "conv strided")}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("name", sorted(POOLED))
def test_pooling_joins_too(name, relu, dtype):
    """Convolution, ReLU and pooling of 2x2 windows give the same as one after the other."""
    make, shape = POOLED[name]
    distdl.manual_seed(0)
    model = nn.Sequential(make(), *([nn.ReLU()] if relu else []), nn.MaxPool2d(2)).astype(dtype)
    x = drawn(shape, dtype)
    joined = train_once(model, x)
    assert operations(model, x)[1] == ["0.conv2d+relu+pool" if relu else "0.conv2d+pool"]
    for module in model:
        module.register_forward_hook(lambda module, args, result: None)
    assert len(operations(model, x)[1]) == len(model)
    for parameter in model.parameters():
        parameter.grad = None
    apart = train_once(model, x)
    np.testing.assert_array_equal(joined[0], apart[0])
    for ours, theirs in zip(joined, apart, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_only_windows_that_halve_are_joined():
    """Other windows, and those behind groups or dilated kernels, run apart."""
    x = drawn((1, 12, 12, 4))
    for pool in (nn.MaxPool2d(3), nn.MaxPool2d(2, stride=1), nn.MaxPool2d(2, padding=1)):
        assert operations(nn.Sequential(nn.Conv2d(4, 4, 3), pool), x)[1] == ["0.conv2d", "1.max_pool2d"]
    for options in ({"groups": 2}, {"dilation": 2}):
        names = operations(nn.Sequential(nn.Conv2d(4, 4, 3, **options), nn.ReLU(), nn.MaxPool2d(2)), x)[1]
        assert names == ["0.conv2d+relu", "2.max_pool2d"]


def test_too_small_images_are_refused_when_joined():
    """Results of one pixel cannot be pooled, and the message says so."""
    with pytest.raises(distdl.core.errors.ArgumentError, match=r"\(1, 1\)\) must be 2 or more"):
        nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(2))(distdl.tensor(drawn((1, 3, 3, 1))))


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_nan_is_not_lost(name):
    """A ReLU that rides along hands NaN on, as one that stands alone does."""
    make, shape = LAYERS[name]
    x = drawn(shape)
    x[0] = np.nan
    y = nn.Sequential(make(), nn.ReLU())(distdl.tensor(x))
    assert np.isnan(y.data[0]).all()


def test_the_timeline_shows_what_ran():
    """The joined operation goes by the layer's name, in both passes."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.ReLU(), nn.Linear(4, 4), nn.Tanh(), nn.ReLU())
    with distdl.timeline() as timeline:
        model(distdl.tensor(drawn((2, 4)))).sum().backward()
    names = ["0.linear+relu", "2.relu", "3.linear", "4.tanh", "5.relu", "sum"]
    assert [span.label for span in timeline.spans if span.phase == "forward"] == names
    assert [span.label for span in timeline.spans if span.phase == "backward"] == names[::-1]


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("kind", ["forward_pre", "forward", "backward"])
def test_hooks_see_each_layer(kind, place):
    """A hook on one of the two keeps them apart, and is called; once it is removed they join."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    calls = []
    remove = getattr(model[place], f"register_{kind}_hook")(lambda *args: calls.append(args[0]))
    y, names = operations(model, drawn((2, 4)))
    assert names == ["0.linear", "1.relu"]
    y.sum().backward()
    assert calls == [model[place]]
    remove()
    assert operations(model, drawn((2, 4)))[1] == ["0.linear+relu"]


def test_only_our_own_layers_are_joined(monkeypatch):
    """Subclasses, and a forward() that was put in later, run as they are written."""

    class Shifted(nn.Linear):
        def forward(self, x):
            return super().forward(x) - 1.0

    class Negative(nn.ReLU):
        def forward(self, x):
            return -super().forward(x)

    x = drawn((2, 4))
    for layers in ((Shifted(4, 4), nn.ReLU()), (nn.Linear(4, 4), Negative())):
        y, names = operations(nn.Sequential(*layers), x)
        assert "0.linear" in names
        np.testing.assert_array_equal(y.data, layers[1](layers[0](distdl.tensor(x))).data)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model[1].forward = lambda x: x * 0.0
    assert (model(distdl.tensor(x)).data == 0).all()
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with monkeypatch.context() as patch:
        patch.setattr(nn.ReLU, "forward", lambda self, x: x * 0.0)
        assert (model(distdl.tensor(x)).data == 0).all()


def test_functions_take_relu():
    """`relu=True` of linear and conv2d, functions and modules, is max(., 0) of what they give."""
    x, linear = distdl.tensor(drawn((5, 7))), nn.Linear(7, 3)
    images, conv = distdl.tensor(drawn((2, 6, 6, 3))), nn.Conv2d(3, 4, 3)
    for joined, plain in (
        (nn.functional.linear(x, linear.weight, linear.bias, relu=True), linear(x)),
        (linear(x, relu=True), linear(x)),
        (nn.functional.conv2d(images, conv.weight, conv.bias, relu=True), conv(images)),
        (conv(images, relu=True), conv(images)),
    ):
        assert (plain.data < 0).any()
        np.testing.assert_array_equal(joined.data, np.maximum(plain.data, 0))


def test_anomalies_are_found_in_joined_operations():
    """detect_anomaly() finds a weight that was written to behind the tensor's back."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with distdl.detect_anomaly():
        loss = model(distdl.tensor(drawn((2, 4)))).sum()
    model[0].weight.numpy()[0] = 5
    with pytest.raises(distdl.core.errors.GraphError, match="written to after `linear`"):
        loss.backward()


def test_a_slice_of_a_container_is_a_container():
    """Sequential and ModuleList share their modules with what a slice of them gives."""
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    head = model[:2]
    assert type(head) is nn.Sequential
    assert head[0] is model[0]
    np.testing.assert_array_equal(head(drawn((2, 4))).data, model[1](model[0](drawn((2, 4)))).data)
    assert [type(nn.ModuleList(model)[1:]), len(nn.ModuleList(model)[1:])] == [nn.ModuleList, 2]


NORMED = {
    "winograd": (lambda: nn.Conv2d(16, 20, 3, padding=1, bias=False), (5, 9, 7, 16), True),
    "direct": (lambda: nn.Conv2d(3, 20, 5, stride=2, bias=False), (5, 9, 9, 3), True),
    "pointwise": (lambda: nn.Conv2d(5, 20, 1, bias=False), (5, 9, 9, 5), False),
}


@pytest.mark.parametrize("name", sorted(NORMED))
def test_a_convolution_takes_the_moments_for_a_batch_norm(name, monkeypatch):
    """Result, gradients and running statistics are those of both apart, where a hook looks on."""
    make, shape, taken = NORMED[name]
    distdl.manual_seed(0)
    x = 3 + drawn(shape)
    calls = []
    moments = batch.moments
    monkeypatch.setattr(batch, "moments", lambda rows: calls.append(rows) or moments(rows))
    model = nn.Sequential(make(), nn.BatchNorm2d(20), nn.ReLU())
    start = {name: value.copy() for name, value in model.state_dict().items()}
    joined = [*train_once(model, x), *(buffer.copy() for _, buffer in model.named_buffers())]
    assert len(calls) == (0 if taken else 1)
    model.load_state_dict(start)
    model.zero_grad()
    model[0].register_forward_hook(lambda module, args, result: None)
    apart = [*train_once(model, x), *(buffer for _, buffer in model.named_buffers())]
    assert len(calls) == (1 if taken else 2)
    for ours, theirs in zip(joined, apart, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6 * np.abs(theirs).max())


def test_a_norm_that_is_evaluated_needs_no_moments():
    """It takes its running statistics."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    x = drawn((2, 6, 6, 3))
    y = model(distdl.tensor(x)).data
    np.testing.assert_allclose(y, model[0](distdl.tensor(x)).data / np.sqrt(1 + model[1].eps), rtol=1e-5, atol=1e-6)


def test_where_sums_are_fixed_the_norm_takes_its_own_moments():
    """The convolution would have to do all of its work on one thread."""
    images, weights, taken = drawn((2, 8, 8, 16)), distdl.tensor(drawn((3, 3, 16, 16))), []
    threads.fix_sums()
    try:
        taken.append(batch.Moments())
        nn.functional.conv2d(images, weights, moments=taken[-1])
    finally:
        threads.free_sums()
    taken.append(batch.Moments())
    nn.functional.conv2d(images, weights, moments=taken[-1])
    assert [moments.found is not None for moments in taken] == [False, True]
