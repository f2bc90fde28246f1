"""Modules whose parts are replaced, shared, copied, frozen, or loaded from elsewhere."""

import copy

import numpy as np
import pytest

import distdl
from distdl import nn


def test_what_is_replaced_keeps_its_place():
    """A new layer in the middle of a Sequential runs in the middle; a new parameter stays where it was listed."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4))
    model.register_module("1", nn.Tanh())
    setattr(model, "0", nn.Linear(2, 3))
    assert [type(layer).__name__ for layer in model] == ["Linear", "Tanh", "Linear"]
    assert model(distdl.zeros(1, 2)).shape == (1, 4)
    layer = nn.Linear(2, 3)
    layer.weight = distdl.Parameter(np.ones((2, 3)))
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


def test_a_name_changes_its_kind():
    """A name that held a module, a buffer or a plain value can hold a parameter, and is listed once."""
    model = nn.Module()
    model.part = nn.ReLU()
    model.part = distdl.Parameter([1.0])
    assert [name for name, _ in model.named_children()] == []
    assert list(model.state_dict()) == ["part"]
    model.register_buffer("part", np.zeros(2))
    assert list(model.parameters()) == []
    assert list(model.state_dict()) == ["part"]
    model.part = "text"
    assert model.state_dict() == {}
    assert model.part == "text"


def test_shared_parameters_are_trained_once():
    """A tied weight is one parameter: listed once, saved under both names, with the sum of both gradients."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    assert [name for name, _ in model.named_parameters()] == ["0.weight"]
    assert list(model.state_dict()) == ["0.weight", "1.weight"]
    w = model[0].weight.data
    x = np.array([[1.0, 2.0]], np.float32)
    model(distdl.tensor(x)).sum().backward()
    ones = np.ones((1, 2), np.float32)
    np.testing.assert_allclose(model[0].weight.grad, (x @ w).T @ ones + x.T @ (ones @ w.T), rtol=1e-5)


def test_copies_of_models_share_nothing():
    """copy.deepcopy keeps values, modes, frozen parameters and ties, and the copy learns alone."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    model[2].weight = model[0].weight
    model[0].bias.requires_grad = False
    twin = copy.deepcopy(model.eval())
    assert twin[2].weight is twin[0].weight is not model[0].weight
    assert not twin.training
    assert not twin[0].bias.requires_grad
    x = distdl.tensor(np.ones((3, 2), np.float32))
    assert (twin(x).data == model(x).data).all()
    twin.train()(x).sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, array in twin.state_dict().items():
        assert not np.shares_memory(array, model.state_dict()[name]), name


@pytest.mark.parametrize(
    "convert",
    [
        lambda array: array,
        np.asfortranarray,
        lambda array: array.astype(">f8"),
        lambda array: distdl.tensor(array, requires_grad=True),
        lambda array: array.tolist(),
    ],
)
def test_state_may_come_in_any_form(convert):
    """Arrays of any layout and byte order, tensors and lists are copied into the parameters' own arrays."""
    model, source = nn.Linear(3, 2), nn.Linear(3, 2)
    arrays = [parameter.data for parameter in model.parameters()]
    model.load_state_dict({name: convert(array) for name, array in source.state_dict().items()})
    for array, parameter, expected in zip(arrays, model.parameters(), source.parameters(), strict=True):
        assert parameter.data is array
        assert parameter.dtype == np.float32
        assert (array == expected.data).all()


def test_loading_between_forward_and_backward_is_found():
    """New weights under a loss that was computed with the old ones would give a wrong gradient."""
    model = nn.Linear(3, 2)
    x = distdl.tensor(np.ones((1, 3), np.float32), requires_grad=True)
    loss = model(x).sum()
    model.load_state_dict(nn.Linear(3, 2).state_dict())
    with pytest.raises(ValueError, match="changed in place"):
        loss.backward()


def test_frozen_parts_get_no_gradient_and_pass_it_on():
    """Layers below a frozen one learn; frozen ones have no gradient; all frozen means nothing to go back through."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].requires_grad_(False)
    x = distdl.tensor(np.ones((1, 2), np.float32))
    model(x).sum().backward()
    assert all(parameter.grad is not None for parameter in model[0].parameters())
    assert all(parameter.grad is None for parameter in model[1].parameters())
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="does not require a gradient"):
        model(x).sum().backward()


def test_printed_models_are_nested():
    """Each part stands on a line of its own, indented below what holds it."""
    model = nn.Sequential(nn.Sequential(nn.ReLU()), nn.Flatten())
    assert repr(model).splitlines() == [
        "Sequential(",
        "  (0): Sequential(",
        "    (0): ReLU()",
        "  )",
        f"  (1): {model[1]!r}",
        ")",
    ]


def test_backward_hooks_of_modules_that_hand_their_input_through():
    """The hook of an identity runs once for each forward, and does not stay on the input."""
    model, x, seen = nn.Sequential(), distdl.tensor(np.ones(2), requires_grad=True), []
    model.register_backward_hook(lambda module, gradient: seen.append(gradient))
    for _ in range(3):
        model(x).sum().backward()
    x.sum().backward()
    assert len(seen) == 3
    assert x.grad.tolist() == [4, 4]


def test_types_change_whole_or_not_at_all():
    """One parameter that a synchronizer holds keeps the whole model's type; shared parameters change with the rest."""
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.BatchNorm1d(1))
    model[1].bias._owner = object()
    with pytest.raises(ValueError, match="synchronizer"):
        model.astype("float64")
    assert {array.dtype for array in model.state_dict().values() if array.dtype.kind == "f"} == {np.dtype("float32")}
    model[1].bias._owner = None
    model[1].weight = model[0].weight
    model.astype("float64")
    assert {array.dtype for array in model.state_dict().values() if array.dtype.kind == "f"} == {np.dtype("float64")}


def test_registering_by_method():
    """register_parameter and register_module are assignments; None keeps a name without a parameter."""
    model = nn.Module()
    model.register_parameter("weight", distdl.Parameter([1.0]))
    model.register_module("part", nn.ReLU())
    assert list(model.buffers()) == []
    assert [name for name, _ in model.named_modules("top")] == ["top", "top.part"]
    model.register_parameter("weight", None)
    assert model.weight is None
    assert model.state_dict() == {}
