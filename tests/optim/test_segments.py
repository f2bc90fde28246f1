"""One kernel call for many parameters does what a call for each does, to the bit."""

import gc
import itertools
import weakref

import numpy as np
import pytest

import distdl
from distdl import nn, optim
from distdl.core import threads
from distdl.kernels import team
from distdl.optim import segments
from distdl.optim.optimizer import Optimizer

SHAPES = [(3, 5), (7,), (1,), (0,), (64, 33), (2, 3, 4, 5)]

RULES = {
    "plain": (optim.SGD, {"lr": 0.1}),
    "momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}),
    "dampening": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": (optim.Adam, {"lr": 0.01, "weight_decay": 1e-3}),
    "adamw": (optim.AdamW, {"lr": 0.01}),
}


def parameters(dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return [distdl.Parameter(rng.normal(size=shape).astype(dtype)) for shape in SHAPES]


def one_by_one(optimizer):
    """Take the way through the single kernels."""
    optimizer._update_together = lambda index, entries, group: entries
    return optimizer


def pair(rule, dtype="float32", **more):
    """Return two optimizers over equal parameters, the second of which updates one by one."""
    kind, options = RULES[rule]
    return kind(parameters(dtype), **options, **more), one_by_one(kind(parameters(dtype), **options, **more))


def set_gradients(optimizers, seed, without=()):
    rng = np.random.default_rng(seed)
    for i, shape in enumerate(SHAPES):
        gradient = rng.normal(size=shape)
        for optimizer in optimizers:
            parameter = optimizer.parameters()[i]
            parameter.grad = None if i in without else gradient.astype(parameter.dtype)


def assert_same_bits(first, second):
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert a.data.tobytes() == b.data.tobytes()
    states = [optimizer.state_dict()["state"] for optimizer in (first, second)]
    for name, state in states[0].items():
        assert state.keys() == states[1][name].keys()
        for key, value in state.items():
            assert np.asarray(value).tobytes() == np.asarray(states[1][name][key]).tobytes(), (name, key)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", sorted(RULES))
def test_together_is_one_by_one(rule, dtype, count, monkeypatch):
    """Values and state have equal bits after several steps, while gradients come and go, on any number of threads."""
    monkeypatch.setattr(threads, "_current", threads.Threads(count, "test"))
    monkeypatch.setattr(team, "_WORTH_A_THREAD", 1)
    both = pair(rule, dtype)
    for step, without in enumerate([(), (), (1, 4), (), (0, 1, 2, 3, 4, 5), (5,), ()]):
        set_gradients(both, step, without)
        for optimizer in both:
            optimizer.step()
        assert_same_bits(*both)
    assert len(both[0]._segments[0].members) == len(SHAPES) - 1  # all but the empty one


@pytest.mark.parametrize("cuts", list(itertools.combinations_with_replacement(range(7), 2)))
@pytest.mark.parametrize("rule", ["momentum", "adam"])
def test_threads_get_any_part_of_the_values(rule, cuts, monkeypatch):
    """Wherever the values are cut, within a parameter or between two, the parts together are the whole."""
    handed_out = []

    def work(function, count, cost):
        for edges in itertools.pairwise([0, *cuts, count]):
            function(team.Part(slice(*edges), 0))
            handed_out.append(edges)

    monkeypatch.setattr(segments, "each_part", work)
    monkeypatch.setitem(globals(), "SHAPES", [(2,), (1,), (3,)])
    both = pair(rule)
    for step in range(2):
        set_gradients(both, step)
        for optimizer in both:
            optimizer.step()
    assert_same_bits(*both)
    # The first step makes the state, and so goes the other way.
    assert len(handed_out) == 3


@pytest.mark.parametrize("count", [1, 3])
def test_tied_parameters_are_updated_one_after_another(count, monkeypatch):
    """Values that two parameters have in common change twice, in the order of the parameters."""
    monkeypatch.setattr(threads, "_current", threads.Threads(count, "test"))
    monkeypatch.setattr(team, "_WORTH_A_THREAD", 1)
    both = pair("momentum")
    for optimizer in both:
        *_, fifth, sixth = optimizer.parameters()
        sixth.data = fifth.data.reshape(-1)[100:220].reshape(sixth.shape)
    for step in range(3):
        set_gradients(both, step)
        for optimizer in both:
            optimizer.step()
        assert_same_bits(*both)
    assert both[0]._segments[0].members == [0, 1, 2]


@pytest.mark.parametrize("rule", ["momentum", "adam"])
def test_whatever_is_replaced_is_found(rule):
    """New values, gradients, states and types between steps are used, and what was left behind is not written to."""
    both = pair(rule)
    left = []

    def replace_data(parameter):
        left.append((parameter.data, parameter.data.copy()))
        parameter.data = np.ones_like(parameter.data)

    def fortran(parameter):
        parameter.data = np.asfortranarray(parameter.data)

    def freeze(parameter):
        parameter.requires_grad = False

    for step, change in enumerate([None, None, replace_data, None, fortran, None, freeze, None]):
        set_gradients(both, step)
        for optimizer in both:
            if change is not None:
                change(optimizer.parameters()[4])
            optimizer.step()
        assert_same_bits(*both)
    for optimizer in both:
        optimizer.load_state_dict(both[1].state_dict())
    set_gradients(both, 8)
    for optimizer in both:
        optimizer.step()
    assert_same_bits(*both)
    assert all((array == before).all() for array, before in left)


def test_gradients_that_a_kernel_cannot_take_go_alone():
    """Strided, read-only and wider gradients are heeded as before."""
    both = pair("momentum")
    for step in range(4):
        set_gradients(both, step)
        for optimizer in both:
            first, second, _, _, fifth, _ = optimizer.parameters()
            first.grad = np.asfortranarray(first.grad)
            second.grad.flags.writeable = False
            fifth.grad = fifth.grad.astype(np.float64)
            optimizer.step()
        assert_same_bits(*both)
    assert both[0]._segments[0].others == [0, 1, 3, 4]


def test_groups_of_several_types_and_options():
    """Each group has its own options; float64 beside float32 in a group is updated too; groups may come later."""

    def make():
        plain, wide = parameters(), parameters("float64")
        optimizer = optim.SGD(
            [{"params": plain[:2] + wide[:2], "lr": 0.5}, {"params": plain[2:]}], lr=0.1, momentum=0.5
        )
        return optimizer, wide[4]

    (first, late_first), (second, late_second) = make(), make()
    one_by_one(second)
    rng = np.random.default_rng(1)
    for step in range(5):
        if step == 2:
            first.add_param_group({"params": [late_first], "momentum": 0.0})
            second.add_param_group({"params": [late_second], "momentum": 0.0})
        if step == 3:
            first.param_groups[0]["momentum"] = second.param_groups[0]["momentum"] = 0.0
        for a, b in zip(first.parameters(), second.parameters(), strict=True):
            a.grad = rng.normal(size=a.shape).astype(a.dtype)
            b.grad = a.grad.copy()
        first.step()
        second.step()
        assert_same_bits(first, second)


def test_a_rule_without_a_kernel_for_many_still_runs():
    """A user's rule needs `check` and `update` only."""

    class Sign(Optimizer):
        def check(self, group):
            pass

        def update(self, parameter, gradient, state, group):
            parameter.data -= group["lr"] * np.sign(gradient)

    parameter = distdl.Parameter([1.0, 2.0])
    parameter.grad = np.array([3.0, -3.0], np.float32)
    Sign([parameter], {"lr": 0.5}).step()
    assert parameter.data.tolist() == [0.5, 2.5]


def test_a_forgotten_gradient_leaves_its_memory():
    """After zero_grad() backward writes where it wrote before, and the optimizer has no address to find."""
    model = nn.Linear(3, 2)
    x = distdl.tensor(np.ones((4, 3), np.float32))
    for forget in (optim.SGD(model.parameters()).zero_grad, model.zero_grad):
        model(x).sum().backward()
        before = model.weight.grad.ctypes.data
        forget()
        assert model.weight.grad is None
        (model(x) * 2.0).sum().backward()
        assert model.weight.grad.ctypes.data == before
        assert (model.weight.grad == 8).all()


def test_a_gradient_that_somebody_holds_stays_as_it_is():
    """An array, or a view of one, that was taken from `.grad` is never written to after zero_grad()."""
    model = nn.Linear(3, 2)
    x = distdl.tensor(np.ones((4, 3), np.float32))
    for take in (lambda gradient: gradient, lambda gradient: gradient[1:], memoryview):
        model(x).sum().backward()
        held = take(model.weight.grad)
        model.zero_grad()
        (model(x) * 2.0).sum().backward()
        assert (np.asarray(held) == 4).all()
        assert (model.weight.grad == 8).all()
        model.weight.grad = model.bias.grad = None
        del held


def test_a_memory_is_left_once():
    """Whoever sets `.grad` to None by hand keeps what he took from it."""
    model = nn.Linear(3, 2)
    x = distdl.tensor(np.ones((4, 3), np.float32))
    model(x).sum().backward()
    model.zero_grad()
    model(x).sum().backward()
    held = model.weight.grad
    model.weight.grad = None
    (model(x) * 2.0).sum().backward()
    assert (held == 4).all()


def test_no_gradient_outlives_its_parameters_grad():
    """The optimizer remembers where gradients were, but does not keep them."""
    parameter = distdl.Parameter(np.zeros(5, np.float32))
    optimizer = optim.SGD([parameter], momentum=0.9)
    for _ in range(3):
        parameter.grad = np.ones(5, np.float32)
        optimizer.step()
    gone = weakref.ref(parameter.grad)
    parameter.grad = None
    gc.collect()
    assert gone() is None


def test_a_change_of_type_drops_the_memory():
    """astype() between zero_grad() and backward() gives gradients of the new type."""
    model = nn.Linear(3, 2)
    model(distdl.tensor(np.ones((4, 3), np.float32))).sum().backward()
    model.zero_grad()
    model.astype("float64")
    model(distdl.tensor(np.ones((4, 3)))).sum().backward()
    assert model.weight.grad.dtype == np.float64
