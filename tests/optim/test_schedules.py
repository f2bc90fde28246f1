"""Schedules against PyTorch's, over settings and metrics that are drawn."""

import numpy as np
import pytest

from distdl import autograd, nn, optim


def pair(torch, lr):
    peer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=lr)
    return optim.SGD([autograd.Parameter([1.0])], lr=lr), peer


@pytest.mark.parametrize(("total", "share"), [(10, 0.3), (20, 0.25), (7, 0.5), (50, 0.1)])
def test_one_cycle_is_pytorchs(total, share):
    """Every rate of the cycle is PyTorch's."""
    torch = pytest.importorskip("torch")
    optimizer, peer = pair(torch, 0.1)
    ours = optim.OneCycleLR(optimizer, max_lr=0.7, total_steps=total, pct_start=share)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        peer, max_lr=0.7, total_steps=total, pct_start=share, cycle_momentum=False
    )
    for step in range(total):
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-9), step
        peer.step()
        ours.step()
        if step < total - 1:
            theirs.step()


@pytest.mark.parametrize(("total", "share"), [(10, 0.1), (2, 0.5), (1, 0.3)])
def test_a_cycle_without_a_rise_starts_at_its_peak(total, share):
    """Where the rise has no step, the first rate is no more than the peak, and the last is the lowest."""
    optimizer = optim.SGD([autograd.Parameter([1.0])], lr=0.1)
    schedule = optim.OneCycleLR(optimizer, max_lr=1.0, total_steps=total, pct_start=share)
    rates = []
    for _ in range(total + 1):
        rates += schedule.get_last_lr()
        schedule.step()
    assert rates[0] <= 1.0
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(4e-6)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(
    "options", [{"patience": 0}, {"patience": 2, "cooldown": 3}, {"threshold": 0.2, "min_lr": 0.05}]
)
def test_plateaus_are_pytorchs(mode, options):
    """Over fifty drawn metrics the rate falls where PyTorch's falls, also in a run that was resumed halfway."""
    torch = pytest.importorskip("torch")
    optimizer, peer = pair(torch, 1.0)
    options = {"mode": mode, "factor": 0.5, **options}
    ours = optim.ReduceLROnPlateau(optimizer, **options)
    # Differences below eps are passed over by PyTorch.
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(peer, eps=0.0, **options)
    for step, metric in enumerate(np.random.default_rng(3).uniform(1.0, 2.0, 50)):
        if step == 25:
            state = ours.state_dict()
            ours = optim.ReduceLROnPlateau(optimizer, **options)
            ours.load_state_dict(state)
        ours.step(metric)
        theirs.step(metric)
        assert ours.get_last_lr() == pytest.approx([group["lr"] for group in peer.param_groups]), step
    assert ours.get_last_lr()[0] < 1.0


def test_groups_keep_their_proportions():
    """A schedule multiplies every group's own rate, and a rate set anew for a group with a schedule is overruled."""
    groups = [{"params": [autograd.Parameter([1.0])], "lr": lr} for lr in (1.0, 0.1)]
    optimizer = optim.SGD(groups)
    schedule = optim.StepLR(optimizer, 1, gamma=0.5)
    schedule.step()
    assert schedule.get_last_lr() == [0.5, 0.05]
    optimizer.param_groups[0]["lr"] = 9.0
    schedule.step()
    assert schedule.get_last_lr() == [0.25, 0.025]


def test_groups_that_came_later_are_named():
    """A schedule knows the rates of the groups that it was made for, and of no others."""
    optimizer = optim.SGD(nn.Linear(2, 2), lr=0.1)
    schedule = optim.StepLR(optimizer, 1)
    optimizer.add_param_group({"params": nn.Linear(2, 2)})
    with pytest.raises(ValueError, match="must have the 1 groups that the schedule was made for"):
        schedule.step()
