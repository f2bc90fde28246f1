"""Modules: registration, state, modes, hooks; and the layers' own rules."""

import numpy as np
import pytest

import distdl
from distdl import nn


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.second = nn.Linear(3, 2)
        self.second.tied = self.first.weight
        self.register_buffer("seen", np.zeros(1))
        self.scale = distdl.Parameter([2.0])

    def forward(self, x):
        return self.second(self.first(x)) * self.scale


def test_attributes_register():
    """Parameters, buffers and modules are found by name, shared ones once."""
    model = Pair()
    names = [name for name, _ in model.named_parameters()]
    assert names == ["scale", "first.weight", "first.bias", "second.weight", "second.bias"]
    assert [name for name, _ in model.named_buffers()] == ["seen"]
    assert [name for name, _ in model.named_children()] == ["first", "second"]
    assert len(list(model.children())) == 2
    assert "second.tied" in model.state_dict()
    assert "(first): Linear(2, 3, bias=True)" in repr(model)
    model.seen = np.ones(1)
    assert dict(model.named_buffers())["seen"] == 1
    model.first = None
    del model.scale
    assert [name for name, _ in model.named_parameters()] == ["second.weight", "second.bias", "second.tied"]
    for use in (lambda: model.nothing, lambda: model.__delattr__("nothing")):
        with pytest.raises(AttributeError, match="nothing"):
            use()


def test_state_is_loaded_whole_or_not_at_all():
    """Unknown and missing names, wrong shapes and types are named, and nothing is copied then."""
    model, other = Pair(), Pair()
    state = {name: array + 1 for name, array in other.state_dict().items()}
    for change, message in (
        ({"scale": np.zeros(2)}, r"state\['scale'\]"),
        ({"scale": np.zeros(1, complex)}, "cannot be cast"),
        ({"extra": np.zeros(1)}, r"unknown names \['extra'\]"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            model.load_state_dict({**state, **change})
    assert model.scale.item() == 2.0
    model.load_state_dict({**state, "extra": np.zeros(1)}, strict=False)
    assert model.scale.item() == 3.0


def test_modes_types_and_freezing():
    """train, eval, astype, requires_grad_, zero_grad and apply reach every module."""
    model = Pair()
    assert not any(module.training for module in model.eval().modules())
    assert all(module.training for module in model.train().modules())
    assert all(p.dtype == np.float64 for p in model.astype("float64").parameters())
    with pytest.raises(ValueError, match="`dtype`"):
        model.astype(np.int64)
    model(distdl.tensor(np.ones((1, 2)))).sum().backward()
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    assert not any(p.requires_grad for p in model.requires_grad_(False).parameters())
    visited = []
    model.apply(visited.append)
    assert visited[-1] is model


def test_hooks_see_and_replace():
    """Hooks before and after forward, and on the gradient of the result, may replace what they see."""
    layer = nn.Linear(1, 1)
    removes = [
        layer.register_forward_pre_hook(lambda module, args: args[0] * 2),
        layer.register_forward_hook(lambda module, args, result: result * 0 + args[0]),
        layer.register_backward_hook(lambda module, gradient: gradient * 3),
    ]
    x = distdl.tensor(np.ones((1, 1), np.float32), requires_grad=True)
    layer(x).backward()
    assert x.grad.tolist() == [[6.0]]
    for remove in removes * 2:
        remove()
    assert layer(x).item() == pytest.approx(layer.weight.item() + layer.bias.item())


def test_containers():
    """Sequential and ModuleList index, append and iterate; an empty Sequential is the identity."""
    model = nn.Sequential(nn.Linear(2, 2)).append(nn.ReLU())
    assert len(model) == len(list(model)) == 2
    assert isinstance(model[1], nn.ReLU)
    modules = nn.ModuleList([nn.ReLU()]).append(nn.Identity())
    assert len(modules) == len(list(modules)) == 2
    assert modules[1](3) == 3
    assert nn.Sequential()(5) == 5


LAYERS = {
    "ELU": (nn.ELU(0.5), (2, 3)),
    "GELU": (nn.GELU("tanh"), (2, 3)),
    "LeakyReLU": (nn.LeakyReLU(0.2), (2, 3)),
    "ReLU": (nn.ReLU(), (2, 3)),
    "SiLU": (nn.SiLU(), (2, 3)),
    "Sigmoid": (nn.Sigmoid(), (2, 3)),
    "Tanh": (nn.Tanh(), (2, 3)),
    "Softplus": (nn.Softplus(), (2, 3)),
    "Softmax": (nn.Softmax(), (2, 3)),
    "LogSoftmax": (nn.LogSoftmax(), (2, 3)),
    "AvgPool2d": (nn.AvgPool2d(2), (1, 4, 4, 2)),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d((1, 2)), (1, 4, 4, 2)),
    "MaxPool2d": (nn.MaxPool2d(3, 2, 1), (1, 4, 4, 2)),
    "same": (nn.Conv2d(2, 4, 3, padding="same", dilation=2, groups=2), (1, 5, 5, 2)),
    "valid": (nn.Conv2d(2, 4, 2, padding="valid", bias=False), (1, 5, 5, 2)),
    "BatchNorm1d": (nn.BatchNorm1d(3, momentum=None), (4, 3)),
    "BatchNorm2d": (nn.BatchNorm2d(2, affine=False, track_running_stats=False), (2, 3, 3, 2)),
    "LayerNorm": (nn.LayerNorm((2, 3)), (4, 2, 3)),
    "Dropout": (nn.Dropout(0.5), (4, 3)),
    "Flatten": (nn.Flatten(), (4, 2, 3)),
}


@pytest.mark.parametrize("name", sorted(LAYERS))
@pytest.mark.parametrize("rows", [None, 0])
def test_layers_run_and_print_themselves(name, rows):
    """Every layer takes its input, without rows too, gives float32, and sends a gradient back."""
    layer, shape = LAYERS[name]
    shape = shape if rows is None else (rows, *shape[1:])
    x = distdl.tensor(np.random.default_rng(0).normal(size=shape).astype(np.float32), requires_grad=True)
    for module in (layer.train(), layer.eval()):
        y = module(x)
        assert y.dtype == np.float32
        y.sum().backward()
    assert x.grad.shape == shape
    assert np.isfinite(x.grad).all()
    assert repr(layer).startswith(type(layer).__name__)


def test_losses_as_modules():
    """Loss modules are their functions, and means carry their denominators."""
    x = distdl.tensor(np.random.default_rng(0).normal(size=(4, 3)), requires_grad=True)
    labels, ones = np.array([0, 2, 1, 1]), np.ones((4, 3))
    weight = np.array([1.0, 2.0, 3.0])
    for loss, target, denominator in (
        (nn.CrossEntropyLoss(), labels, 4),
        (nn.CrossEntropyLoss(weight=weight), labels, 8),
        (nn.CrossEntropyLoss(), ones / 3, 4),
        (nn.NLLLoss(weight), labels, 8),
        (nn.MSELoss(), ones, 4),
        (nn.BCEWithLogitsLoss(weight, weight), ones, 4),
        (nn.MSELoss("sum"), ones, None),
    ):
        assert loss(x, target).denominator == denominator
        assert "reduction" in repr(loss)
    assert nn.functional.linear(x, distdl.tensor(np.ones((3, 1)))).shape == (4, 1)


def test_initialisers():
    """Each fills with the moments, or bounds, that its formula gives."""
    w = distdl.zeros(200, 300)
    deviations = {
        nn.init.normal_: 1.0,
        nn.init.kaiming_normal_: (2 / 200) ** 0.5,
        nn.init.kaiming_uniform_: (2 / 200) ** 0.5,
        nn.init.xavier_normal_: (2 / 500) ** 0.5,
        nn.init.xavier_uniform_: (2 / 500) ** 0.5,
    }
    for fill, deviation in deviations.items():
        assert fill(w).data.std() == pytest.approx(deviation, rel=0.02)
    assert nn.init.kaiming_normal_(w, "fan_out").data.std() == pytest.approx((2 / 300) ** 0.5, rel=0.02)
    assert nn.init.uniform_(w, 1, 2).data.min() >= 1
    assert (nn.init.zeros_(w).data == 0).all()
    assert (nn.init.ones_(w).data == 1).all()
    assert (nn.init.constant_(w, 3).data == 3).all()


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: nn.Linear(0, 1), "`in_features`"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "`in_channels` .* divisible by `groups`"),
        (lambda: nn.Conv2d(3, 4, 3, stride=2, padding="same"), "needs stride 1"),
        (lambda: nn.Conv2d(3, 4, 3, padding="some"), "`padding`"),
        (lambda: nn.MaxPool2d(2, padding=2), "at most half"),
        (lambda: nn.Dropout(1.5), "`p`"),
        (lambda: nn.BatchNorm2d(3)(distdl.zeros(2, 3)), "rows, height, width, 3"),
        (lambda: nn.CrossEntropyLoss(reduction="max"), "`reduction`"),
        (lambda: nn.Sequential(3), r"`modules\[0\]`"),
        (lambda: nn.Module()(1), "forward"),
        (lambda: nn.init.xavier_normal_(distdl.zeros(3)), "fan-in"),
        (lambda: nn.Module().register_buffer("b", 3), "`array`"),
        (lambda: nn.Module().register_module("m", 3), "`m`"),
        (lambda: setattr(nn.Linear(1, 1), "weight", 3), "`weight`"),
        (lambda: nn.Flatten(3)(distdl.zeros(2, 3)), r"`start_axis` \(=3\) must be an axis"),
        (lambda: nn.Flatten(2, 1)(distdl.zeros(2, 3, 4)), r"`start_axis` \(=2\) must not come after"),
        (lambda: nn.functional.softplus(distdl.zeros(2), beta=0.0), "`beta`"),
        (lambda: nn.functional.dropout(distdl.zeros(2, 3), -0.5), "`p`"),
        (lambda: nn.functional.cross_entropy(distdl.zeros(2, 3), np.zeros(2)), "must be integers"),
        (lambda: nn.functional.cross_entropy(distdl.zeros(2, 3), np.zeros((2, 4))), r"shape \(2, 4\)"),
        (lambda: nn.functional.cross_entropy(distdl.zeros(2, 3), np.full((2, 3), np.nan)), r"with nan.*>= 0"),
    ],
)
def test_misuse_is_named(use, message):
    """Wrong arguments of layers name themselves."""
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=message):
        use()


def test_flattening_joins_the_named_axes():
    """As NumPy's reshape, with axes counted from either end."""
    x = distdl.tensor(np.arange(24.0).reshape(2, 3, 4))
    assert nn.Flatten()(x).shape == x.flatten(1).shape == (2, 12)
    assert x.flatten(-3, -2).shape == (6, 4)
    assert (x.flatten().data == np.arange(24)).all()
    assert distdl.tensor(1.0).flatten().shape == (1,)


def test_functional_dropout_is_keyed_by_sample():
    """A sample's draw does not depend on the rows beside it; calls within a batch differ; evaluation drops nothing."""
    x = distdl.tensor(np.ones((4, 64), np.float32))

    def draws(samples):
        with distdl.core.random.batch_of(3, samples):
            return [nn.functional.dropout(x[: len(samples)], 0.25).data for _ in range(2)]

    first, second = draws(np.array([5, 6, 7, 8]))
    assert (draws(np.array([7, 5]))[0] == first[[2, 0]]).all()
    assert (first != second).any()
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.75)}
    assert nn.functional.dropout(x, 0.25, training=False) is x


def test_init_must_be_called_first():
    """A module that forgets super().__init__() is told so."""

    class Forgetful(nn.Module):
        def __init__(self):
            self.layer = nn.ReLU()

    with pytest.raises(TypeError, match=r"super\(\).__init__\(\)"):
        Forgetful()
