"""What an optimizer holds for its parameters: names, state, and the arrays it updates."""

import copy

import numpy as np
import pytest

from distdl import autograd, nn, optim
from distdl.core.errors import ArgumentError


def stepped(parameters, rule=optim.SGD, **options):
    """Return an optimizer that has made a step with gradients 1, 2, ..."""
    optimizer = rule(parameters, **{"lr": 0.5, **({"momentum": 0.9} if rule is optim.SGD else {}), **options})
    for i, parameter in enumerate(optimizer.parameters()):
        parameter.grad = np.full(parameter.shape, i + 1, parameter.dtype)
    optimizer.step()
    return optimizer


def test_parameters_of_one_name_have_states_of_their_own():
    """Groups without names, and layers of two models, are kept apart in the saved state."""
    for make in (
        lambda a, b: [{"params": [a]}, {"params": [b]}],
        lambda a, b: [("w", a), ("w", b)],
    ):
        a, b = autograd.Parameter([0.0]), autograd.Parameter([0.0])
        state = stepped(make(a, b)).state_dict()
        again = optim.SGD(make(a, b), lr=0.5, momentum=0.9)
        again.load_state_dict(state)
        assert [float(own["velocity"][0]) for own in again.state] == [1, 2]
    first, second = nn.Linear(2, 1), nn.Linear(2, 1)
    state = stepped([*first.parameters(), *second.parameters()]).state_dict()["state"]
    assert list(state) == ["weight", "bias", "weight (2)", "bias (2)"]


def test_loaded_arrays_are_copies():
    """A step after loading leaves the saved state alone, of parameters without axes too."""
    for shape in ((), (3,)):
        w = autograd.Parameter(np.ones(shape))
        optimizer = stepped([w])
        state = copy.deepcopy(optimizer.state_dict())
        saved = state["state"]["parameter 0"]["velocity"]
        optimizer.load_state_dict(state)
        optimizer.step()
        assert (saved == 1).all()
        assert (optimizer.state[0]["velocity"] == 1.9).all()


def test_state_that_does_not_fit_is_refused_whole():
    """Shapes, options of another rule, and bad values are named, and nothing is taken over."""
    w = autograd.Parameter([1.0, 2.0])
    optimizer = stepped([{"params": [w]}, {"params": [autograd.Parameter([1.0])], "lr": 2.0}])
    before = copy.deepcopy(optimizer.state_dict())
    changes = {
        r"state\['parameter 0'\]\['velocity'\].*shape \(2,\)": lambda s: s["state"]["parameter 0"].update(
            velocity=np.ones(1)
        ),
        r"unknown options \['betas'\] in a parameter group of SGD": lambda s: s["groups"][0].update(betas=(0.9, 0.9)),
        "`lr`": lambda s: (s["groups"][0].update(lr=7.0), s["groups"][1].update(lr=-1.0)),
        "has 3 groups": lambda s: s["groups"].append({}),
    }
    for message, change in changes.items():
        state = copy.deepcopy(before)
        change(state)
        with pytest.raises(ArgumentError, match=message):
            optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    assert after["groups"] == before["groups"]
    for name in before["state"]:
        assert (after["state"][name]["velocity"] == before["state"][name]["velocity"]).all()
    with pytest.raises(ArgumentError, match="unknown options"):
        optim.Adam(optimizer.param_groups[0]["params"]).load_state_dict(stepped([w]).state_dict())


@pytest.mark.parametrize("rule", [optim.SGD, optim.Adam, optim.AdamW])
def test_values_in_any_layout_are_updated(rule):
    """Parameters whose array is a transpose or every second value go where contiguous ones go, in their own memory."""
    start = np.arange(6.0).reshape(2, 3)
    plain, turned, spread = (autograd.Parameter(start) for _ in range(3))
    memory = np.zeros((4, 3))
    turned.data, spread.data = np.array(start.T, order="C").T, memory[::2]
    spread.data[...] = start
    optimizer = rule([plain, turned, spread], lr=0.1, weight_decay=0.1)
    for step in range(3):
        for parameter in optimizer.parameters():
            parameter.grad = np.asfortranarray(start - step)
        optimizer.step()
    assert (turned.data == plain.data).all()
    assert (memory[::2] == plain.data).all()
    assert (memory[1::2] == 0).all()
    assert not np.allclose(plain.data, start)


def test_gradients_of_another_shape_are_refused():
    """A gradient that a user set wrongly is named before anything moves."""
    a, b = autograd.Parameter([1.0]), autograd.Parameter([1.0, 2.0])
    optimizer = optim.SGD([("a", a), ("b", b)], lr=1.0)
    a.grad, b.grad = np.ones(1, np.float32), np.ones(1, np.float32)
    with pytest.raises(ArgumentError, match=r"`b.grad` .*\(1,\).* shape \(2,\)"):
        optimizer.step()
    assert a.item() == 1.0


def test_clipping_by_norm_keeps_the_direction():
    """Clipped gradients are parallel to what they were, NaN is left alone, and small ones are not touched."""
    rng = np.random.default_rng(0)
    parameters = [autograd.Parameter(np.zeros(shape)) for shape in ((3, 4), (), (5,))]
    before = [rng.normal(size=parameter.shape) for parameter in parameters]
    for parameter, gradient in zip(parameters, before, strict=True):
        parameter.grad = np.array(gradient)
    norm = np.sqrt(sum((gradient**2).sum() for gradient in before))
    assert optim.clip_grad_norm_(parameters, 100.0) == pytest.approx(norm)
    assert all((p.grad == g).all() for p, g in zip(parameters, before, strict=True))
    optim.clip_grad_norm_(iter(parameters), 0.5)
    for parameter, gradient in zip(parameters, before, strict=True):
        np.testing.assert_allclose(parameter.grad, gradient * (0.5 / norm), rtol=1e-12)
    parameters[0].grad[0, 0] = np.nan
    kept = [parameter.grad.copy() for parameter in parameters]
    assert np.isnan(optim.clip_grad_norm_(parameters, 0.1))
    assert all(np.array_equal(p.grad, g, equal_nan=True) for p, g in zip(parameters, kept, strict=True))


def test_groups_may_be_modules_or_single_parameters():
    """A group's "params" may be a module, one parameter or pairs; the names are those in the module."""
    model, alone = nn.Sequential(nn.Linear(2, 1)), autograd.Parameter([1.0])
    optimizer = optim.SGD([{"params": model}, {"params": alone, "lr": 1.0}])
    assert [name for name, _ in optimizer.named_parameters()] == ["0.weight", "0.bias", "parameter 0"]
    assert [name for name, _ in optim.SGD(model).named_parameters()] == ["0.weight", "0.bias"]
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = np.ones_like(parameter.data)
    optimizer.step()
    assert alone.item() == 0.0


def test_a_state_of_another_rule_is_refused():
    """Adam does not take over momenta, and says what it needs."""
    parameters = [("w", autograd.Parameter([0.0]))]
    state = stepped(parameters).state_dict()
    state["groups"] = optim.Adam(parameters).state_dict()["groups"]
    with pytest.raises(
        ArgumentError, match=r"`state\['w'\]` \(=\['velocity'\]\) must hold \['mean', 'square', 'step'\]"
    ):
        optim.Adam(parameters).load_state_dict(state)


def test_a_rate_that_is_no_number_stops_the_step():
    """A schedule that went wrong is noticed before it writes NaN into the parameters."""
    optimizer = stepped([autograd.Parameter([0.0])])
    before = optimizer.parameters()[0].data.copy()
    optimizer.param_groups[0]["lr"] = float("nan")
    with pytest.raises(ArgumentError, match=r"`lr` .* must be finite"):
        optimizer.step()
    assert (optimizer.parameters()[0].data == before).all()
