"""Learning-rate schedules. Each `step()` sets the rate of every parameter group of an optimizer.

A schedule gives the factor of step t, counted from 0; the groups' rates at its start are the base.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import checks


class LRScheduler:
    """Base of the schedules whose rate is a function of the step count.

    Args:
        optimizer: whose `param_groups` are set.

    Attributes:
        last_epoch: how often `step()` was called.
    """

    def __init__(self, optimizer: Any):
        _check_optimizer(optimizer)
        self.optimizer = optimizer
        self.last_epoch = 0
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self._set()

    def factor(self, step: int) -> float:
        """Return what the base rate is multiplied by at a step."""
        raise NotImplementedError

    def rate(self, base: float, step: int) -> float:
        """Return the learning rate of a group whose base rate is `base`."""
        return base * self.factor(step)

    def step(self) -> None:
        """Go to the next step."""
        self.last_epoch += 1
        self._set()

    def _set(self) -> None:
        if len(self.optimizer.param_groups) != len(self.base_lrs):
            raise checks.bad_value(
                "optimizer",
                f"{len(self.optimizer.param_groups)} groups",
                f"must have the {len(self.base_lrs)} groups that the schedule was made for: add groups before",
            )
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = self.rate(base, self.last_epoch)

    def get_last_lr(self) -> list[float]:
        """Return the rates now set."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return what decides the coming rates."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.last_epoch = checks.integer("last_epoch", state["last_epoch"], 0)
        self.base_lrs = list(state["base_lrs"])
        self._set()


class StepLR(LRScheduler):
    """Multiply the rate by `gamma` every `step_size` steps."""

    def __init__(self, optimizer: Any, step_size: int, gamma: float = 0.1):
        self.step_size = checks.integer("step_size", step_size, 1)
        self.gamma = checks.real("gamma", gamma, 0.0)
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        return float(self.gamma ** (step // self.step_size))


class CosineAnnealingLR(LRScheduler):
    """Go from the base rate to `eta_min` along half a cosine in `T_max` steps, and stay there.

    I. Loshchilov, F. Hutter, "SGDR", ICLR 2017, eq. 5, without restarts.
    """

    def __init__(self, optimizer: Any, T_max: int, eta_min: float = 0.0):
        self.T_max = checks.integer("T_max", T_max, 1)
        self.eta_min = checks.real("eta_min", eta_min, 0.0)
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        share = (1 + math.cos(math.pi * min(step / self.T_max, 1.0))) / 2
        return self.eta_min + (base - self.eta_min) * share


class LinearLR(LRScheduler):
    """Warm up: go from `start_factor` to `end_factor` times the base rate in `total_iters` steps, and stay there."""

    def __init__(self, optimizer: Any, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5):
        self.start_factor = checks.real("start_factor", start_factor, maximum=1.0, above=0.0)
        self.end_factor = checks.real("end_factor", end_factor, 0.0)
        self.total_iters = checks.integer("total_iters", total_iters, 1)
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        share = min(step / self.total_iters, 1.0)
        return self.start_factor + (self.end_factor - self.start_factor) * share


class OneCycleLR(LRScheduler):
    """Rise to `max_lr` and fall far below the start, both along cosines (L. Smith, N. Topin 2018).

    Args:
        optimizer: whose rates are set.
        max_lr: the peak.
        total_steps: length of the cycle; after it the rate stays.
        pct_start: share of the cycle that rises.
        div_factor: start rate = max_lr / div_factor.
        final_div_factor: last rate = start rate / final_div_factor.
    """

    def __init__(
        self,
        optimizer: Any,
        max_lr: float,
        total_steps: int,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ):
        self.max_lr = checks.real("max_lr", max_lr, above=0.0)
        self.total_steps = checks.integer("total_steps", total_steps, 1)
        self.pct_start = checks.real("pct_start", pct_start, above=0.0, below=1.0)
        self.div_factor = checks.real("div_factor", div_factor, 1.0)
        self.final_div_factor = checks.real("final_div_factor", final_div_factor, 1.0)
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        start = self.max_lr / self.div_factor
        peak = self.pct_start * self.total_steps - 1
        last = self.total_steps - 1
        if step <= peak and peak > 0:
            return _cosine(start, self.max_lr, step / peak)
        share = min((step - peak) / (last - peak), 1.0) if last > peak else 1.0
        return _cosine(self.max_lr, start / self.final_div_factor, share)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class SequentialLR(LRScheduler):
    """Run one schedule after another: the i-th up to step `milestones[i]`, each counting from its own start."""

    def __init__(self, optimizer: Any, schedulers: list[LRScheduler], milestones: list[int]):
        for i, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler):
                raise checks.bad_type(
                    f"schedulers[{i}]", type(scheduler).__name__, "must be a schedule that goes by the step count alone"
                )
        if not schedulers:
            raise checks.bad_value("schedulers", schedulers, "must not be empty")
        if len(milestones) != len(schedulers) - 1 or sorted(milestones) != list(milestones):
            raise checks.bad_value("milestones", milestones, f"must be {len(schedulers) - 1} rising step counts")
        self.schedulers = list(schedulers)
        self.milestones = list(milestones)
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        part = sum(step >= milestone for milestone in self.milestones)
        start = self.milestones[part - 1] if part else 0
        return self.schedulers[part].rate(base, step - start)


class ReduceLROnPlateau:
    """Multiply the rate by `factor` after more than `patience` steps without a better metric.

    Of a distributed optimizer all ranks must call `step`; where their metrics differ their mean decides, so that rates
    stay the same everywhere. Of a plain one every rank must give the same (global) metric.

    Args:
        optimizer: whose rates are set.
        mode: "min" if less is better, else "max".
        factor: within (0, 1).
        patience: steps without improvement that are let pass.
        threshold: relative improvement that counts.
        cooldown: steps after a reduction in which none counts as bad.
        min_lr: bound of the rate.
    """

    def __init__(
        self,
        optimizer: Any,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        _check_optimizer(optimizer)
        self.optimizer = optimizer
        self.mode = checks.one_of("mode", mode, ("min", "max"))
        self.factor = checks.real("factor", factor, above=0.0, below=1.0)
        self.patience = checks.integer("patience", patience, 0)
        self.threshold = checks.real("threshold", threshold, 0.0)
        self.cooldown = checks.integer("cooldown", cooldown, 0)
        self.min_lr = checks.real("min_lr", min_lr, 0.0)
        self.best = math.inf if mode == "min" else -math.inf
        self.bad_steps = 0
        self.cooling = 0

    def step(self, metric: float) -> None:
        """Take note of a metric, and reduce the rates if it is time. NaN counts as bad."""
        metric = self._common(float(metric))
        if self._better(metric):
            self.best, self.bad_steps = metric, 0
        else:
            self.bad_steps += 1
        if self.cooling:
            self.cooling -= 1
            self.bad_steps = 0
        if self.bad_steps > self.patience:
            for group in self.optimizer.param_groups:
                group["lr"] = max(group["lr"] * self.factor, self.min_lr)
            self.cooling, self.bad_steps = self.cooldown, 0

    def _common(self, metric: float) -> float:
        """Return the mean of a metric over the ranks; exactly what all give, if it is the same."""
        comm = getattr(self.optimizer, "comm", None)
        if comm is None or comm.size == 1:
            return metric
        metrics = comm.allgather(np.array(metric))
        return metric if (metrics == metric).all() else float(metrics.mean())

    def _better(self, metric: float) -> bool:
        if self.mode == "min":
            return metric < self.best - self.threshold * abs(self.best if math.isfinite(self.best) else 0)
        return metric > self.best + self.threshold * abs(self.best if math.isfinite(self.best) else 0)

    def get_last_lr(self) -> list[float]:
        """Return the rates now set."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return what decides the coming rates."""
        return {"best": self.best, "bad_steps": self.bad_steps, "cooling": self.cooling}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.best, self.bad_steps, self.cooling = state["best"], state["bad_steps"], state["cooling"]


def scale_lr(lr: float, batch_size: int, base_batch_size: int) -> float:
    """Scale a learning rate with the global batch: lr * batch_size / base_batch_size.

    The linear-scaling rule of P. Goyal et al., "Accurate, large minibatch SGD", 2017, section 2.1;
    beyond small factors it wants a warm-up (`LinearLR`).

    Args:
        lr: the rate that suits `base_batch_size`.
        batch_size: rows of the global batch, over all ranks.
        base_batch_size: rows of the batch that `lr` was found for.
    """
    rows = checks.integer("batch_size", batch_size, 1)
    return checks.real("lr", lr, 0.0) * rows / checks.integer("base_batch_size", base_batch_size, 1)


def _check_optimizer(optimizer: Any) -> None:
    if not hasattr(optimizer, "param_groups"):
        raise checks.bad_type("optimizer", optimizer, "must have param_groups")
