"""Update rules, schedules and clipping, held to PyTorch where it is installed, and to the formulas where not."""

import math

import numpy as np
import pytest

from distdl import autograd, nn, optim

RULES = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ]
    + [{"lr": 0.1, "momentum": 0.5, "dampening": 0.2}],
    "Adam": [{"lr": 0.01}, {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1}],
    "AdamW": [{"lr": 0.01}, {"lr": 0.01, "eps": 1e-3, "weight_decay": 0.1}],
}


@pytest.mark.parametrize(("name", "options"), [(name, options) for name in RULES for options in RULES[name]])
def test_rules_agree_with_pytorch(name, options):
    """Twenty steps from drawn gradients end where PyTorch's end."""
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    start = random.normal(size=(3, 4))
    ours, theirs = autograd.Parameter(start), torch.nn.Parameter(torch.tensor(start))
    mine, peer = getattr(optim, name)([ours], **options), getattr(torch.optim, name)([theirs], **options)
    for _ in range(20):
        gradient = random.normal(size=(3, 4))
        ours.grad, theirs.grad = gradient.copy(), torch.tensor(gradient)
        mine.step()
        peer.step()
    np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol=1e-12, atol=1e-13)


REMEMBERING = {
    "SGD": {"momentum": 0.9},
    "Adam": {"betas": (0.9, 0.9)},
    "AdamW": {"betas": (0.9, 0.9)},
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", REMEMBERING)
def test_what_is_remembered_of_a_gradient_that_died_ends_at_zero(name, dtype):
    """Not among subnormal numbers, which would stay, and slow down every step."""
    parameter = autograd.Parameter(np.ones(3, dtype))
    optimizer = getattr(optim, name)([("w", parameter)], lr=0.01, **REMEMBERING[name])
    parameter.grad = np.array([1, -1e-3, 0], dtype)
    optimizer.step()
    parameter.grad = np.zeros(3, dtype)
    for _ in range(8000):
        optimizer.step()
    remembered = {key: array for key, array in optimizer.state_dict()["state"]["w"].items() if key != "step"}
    assert remembered
    assert all((array == 0).all() for array in remembered.values()), remembered


@pytest.mark.parametrize("name", REMEMBERING)
def test_nan_stays(name):
    """What is not a number is not taken for a small one."""
    parameter = autograd.Parameter(np.ones(2, "float32"))
    optimizer = getattr(optim, name)([parameter], lr=0.01, **REMEMBERING[name])
    for gradient in ([np.nan, 1], [0, 0]):
        parameter.grad = np.array(gradient, "float32")
        optimizer.step()
    (state,) = optimizer.state_dict()["state"].values()
    for key, array in state.items():
        assert key == "step" or np.isnan(array).tolist() == [True, False], key


def test_tiny_gradients_of_adam_make_steps_of_their_own_size():
    """A subnormal square counts beside a mean that is not 0: the step is the rate."""
    parameter = autograd.Parameter(np.ones(2, "float32"))
    optimizer = optim.Adam([parameter], lr=0.25, betas=(0.9, 0.9), eps=1e-30)
    parameter.grad = np.full(2, 1e-19, "float32")
    optimizer.step()
    np.testing.assert_allclose(parameter.data, 0.75, rtol=1e-5)


def test_adam_without_eps_leaves_weights_of_a_dead_gradient_alone():
    """Mean and square do not both become 0 there, which would make 0 / 0 of the step."""
    parameter = autograd.Parameter(np.ones(2, "float32"))
    optimizer = optim.Adam([parameter], lr=0.01, betas=(0.9, 0.9), eps=0.0)
    parameter.grad = np.ones(2, "float32")
    optimizer.step()
    parameter.grad = np.zeros(2, "float32")
    for _ in range(3000):
        optimizer.step()
    assert np.isfinite(parameter.data).all()


@pytest.mark.parametrize(("name", "options"), [(name, options) for name in RULES for options in RULES[name]])
def test_state_continues_a_run(name, options):
    """A new optimizer that loads the state goes on as the old one would have."""
    results = []
    for broken in (False, True):
        parameter = autograd.Parameter(np.ones(3))
        optimizer = getattr(optim, name)([("w", parameter)], **options)
        for step in range(4):
            if broken and step == 2:
                state = optimizer.state_dict()
                optimizer = getattr(optim, name)([("w", parameter)], lr=5.0)
                optimizer.load_state_dict(state)
            parameter.grad = np.full(3, 1.0 + step)
            optimizer.step()
        results.append(parameter.data)
    assert (results[0] == results[1]).all()


def test_groups_have_their_own_options():
    """A group's options override the defaults; parameters without a gradient, and frozen ones, stay."""
    a, b, c = (autograd.Parameter([1.0]) for _ in range(3))
    c.requires_grad = False
    optimizer = optim.SGD([{"params": [a]}, {"params": [b, c], "lr": 1.0}], lr=0.5)
    a.grad = b.grad = c.grad = np.ones(1, np.float32)
    optimizer.step()
    assert (a.item(), b.item(), c.item()) == (0.5, 0.0, 1.0)
    optimizer.zero_grad()
    optimizer.step()
    assert (a.item(), a.grad) == (0.5, None)
    with pytest.raises(ValueError, match="state"):
        optimizer.load_state_dict({"groups": [], "state": {}})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.SGD(p, lr=-1.0), r"`lr` \(=-1.0\) must be >= 0"),
        (lambda p: optim.SGD(p, lr=math.nan), "`lr` .* must be finite"),
        (lambda p: optim.SGD(p, lr="fast"), "`lr` .* must be a real number"),
        (lambda p: optim.SGD(p, momentum=-0.5), "`momentum`"),
        (lambda p: optim.SGD(p, nesterov=True), "`nesterov`"),
        (lambda p: optim.SGD(p, weight_decay=math.inf), "`weight_decay`"),
        (lambda p: optim.Adam(p, betas=(0.9, 1.0)), r"`betas\[1\]`"),
        (lambda p: optim.Adam(p, betas=0.9), "`betas`"),
        (lambda p: optim.Adam(p, eps=-1e-8), "`eps`"),
        (lambda p: optim.SGD([]), "must not be empty"),
        (lambda p: optim.SGD(p[0]), "several parameters"),
        (lambda p: optim.SGD([1.0]), "must be a Parameter"),
        (lambda p: optim.SGD(p + p), "given twice"),
        (lambda p: optim.SGD([{"params": p, "speed": 1}]), "unknown options"),
        (lambda p: optim.clip_grad_norm_(p, 0.0), "`max_norm`"),
        (lambda p: optim.clip_grad_value_(p, -1.0), "`clip_value`"),
        (lambda p: optim.StepLR(optim.SGD(p), 0), "`step_size`"),
        (lambda p: optim.StepLR(object(), 1), "`optimizer`"),
        (lambda p: optim.SequentialLR(optim.SGD(p), [], []), "`schedulers`"),
        (lambda p: optim.SequentialLR(optim.SGD(p), [optim.StepLR(optim.SGD(p), 1)], [3]), "`milestones`"),
        (lambda p: optim.SequentialLR(optim.SGD(p), [optim.ReduceLROnPlateau(optim.SGD(p))], []), "step count alone"),
        (lambda p: optim.scale_lr(0.1, 0, 32), "`batch_size`"),
    ],
)
def test_bad_hyper_parameters_are_named(make, message):
    """Wrong values raise in the constructor, naming argument, value and rule."""
    with pytest.raises((ValueError, TypeError), match=message):
        make([autograd.Parameter([1.0])])


SCHEDULES = {
    "StepLR": {"step_size": 3, "gamma": 0.5},
    "CosineAnnealingLR": {"T_max": 10, "eta_min": 0.01},
    "LinearLR": {"start_factor": 0.25, "total_iters": 4},
}


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_schedules_agree_with_pytorch(name):
    """Ten steps set PyTorch's rates, and the state continues them."""
    torch = pytest.importorskip("torch")
    optimizer = optim.SGD([autograd.Parameter([1.0])], lr=0.4)
    peer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.4)
    ours = getattr(optim, name)(optimizer, **SCHEDULES[name])
    theirs = getattr(torch.optim.lr_scheduler, name)(peer, **SCHEDULES[name])
    for _ in range(10):
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12)
        peer.step()
        ours.step()
        theirs.step()
    again = getattr(optim, name)(optimizer, **SCHEDULES[name])
    again.load_state_dict(ours.state_dict())
    assert again.get_last_lr() == ours.get_last_lr()


def test_one_cycle_rises_and_falls():
    """The rate starts at max / 25, peaks at max_lr, and ends at its 10,000th part of the start."""
    optimizer = optim.SGD([autograd.Parameter([1.0])], lr=0.1)
    schedule = optim.OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
    rates = [schedule.get_last_lr()[0]]
    for _ in range(12):
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == rates[2] == 1.0
    assert rates[9] == rates[12] == pytest.approx(4e-6)


def test_schedules_in_sequence():
    """A warm-up goes over into a cosine, each counting from its own start."""
    optimizer = optim.SGD([autograd.Parameter([1.0])], lr=1.0)
    parts = [optim.LinearLR(optimizer, 0.5, total_iters=2), optim.CosineAnnealingLR(optimizer, 4)]
    schedule = optim.SequentialLR(optimizer, parts, [2])
    rates = []
    for _ in range(7):
        rates.append(schedule.get_last_lr()[0])
        schedule.step()
    assert rates == pytest.approx([0.5, 0.75, 1.0, 0.8535533905932737, 0.5, 0.14644660940672627, 0.0], abs=1e-12)


def test_reduce_on_plateau():
    """The rate falls after `patience` bad steps, NaN counts as bad, and the cool-down is kept."""
    optimizer = optim.SGD([autograd.Parameter([1.0])], lr=1.0)
    plateau = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=1, min_lr=0.2)
    rates = []
    for metric in (3.0, 2.0, 2.0, math.nan, 2.0, 2.0, 2.0, 1.0):
        plateau.step(metric)
        rates.append(plateau.get_last_lr()[0])
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]
    again = optim.ReduceLROnPlateau(optimizer, mode="max")
    again.load_state_dict(plateau.state_dict())
    assert again.state_dict() == plateau.state_dict()
    again.step(5.0)
    assert again.best == 5.0


def test_the_linear_scaling_rule():
    """Four times the batch takes four times the rate."""
    assert optim.scale_lr(0.1, 128, 32) == pytest.approx(0.4)


def test_clipping():
    """Gradients are scaled to the common norm, or cut by value; inf is left alone and returned."""
    model = nn.Linear(2, 2)
    model.weight.grad = np.full((2, 2), 3.0, np.float32)
    model.bias.grad = np.array([8.0, 0.0], np.float32)
    assert optim.clip_grad_norm_(model, 5.0) == pytest.approx(10.0)
    assert optim.clip_grad_norm_(model.parameters(), 5.0) == pytest.approx(5.0)
    optim.clip_grad_value_(model, 1.0)
    assert model.bias.grad.tolist() == [1.0, 0.0]
    model.bias.grad[0] = np.inf
    assert optim.clip_grad_norm_(model.bias, 1.0) == math.inf
