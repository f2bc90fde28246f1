"""What a rank computes in a step: from one profile, or from several of one model with other batches or crowds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...core import checks
from ...core.errors import ArgumentError
from ...parallel.profile import Profile


class Times(NamedTuple):
    """Seconds of a rank's step without reductions: up to backward(), in it, and after the gradients are there."""

    forward: float
    backward: float
    update: float

    @property
    def total(self) -> float:
        return sum(self)

    def scaled(self, factor: float) -> Times:
        """Return all of them longer."""
        return Times(factor * self.forward, factor * self.backward, factor * self.update)


class Workload:
    """The steps of one model on one kind of node.

    Forward and backward grow with the batch in a straight line through the profiles' batches, from zero where they
    have one only; the update does not. Where more threads share a machine than it has cores, each gets its share.

    Args:
        profiles: of one model: they have the same gradients.
        cores: of a machine that is planned for; None: as profiled.

    Attributes:
        profiles: those given.
        parameters: bytes of each gradient, and the share of backward() after which it is final, in the model's order.
        batches: those profiled, ascending; empty where the loss does not say.
        spread, combine, polling: see `Profile`; the least that was measured, since what disturbs makes them more.
        cores, threads: of a machine that is planned for, and of a rank.

    Raises:
        ArgumentError: there is none, or they are of different models or kinds of node.
    """

    def __init__(self, profiles: Sequence[Profile], cores: int | None = None):
        if not profiles:
            raise checks.bad_value("profiles", [], "must not be empty")
        first = profiles[0]
        for other in profiles[1:]:
            if [nbytes for nbytes, _ in other.parameters] != [nbytes for nbytes, _ in first.parameters]:
                raise ArgumentError(f"the profiles of {first.script} and {other.script} have different gradients")
            if (other.cores, other.threads) != (first.cores, first.threads):
                raise ArgumentError(
                    f"the profiles are of ranks with {first.threads} of {first.cores} cores, "
                    f"and with {other.threads} of {other.cores}"
                )
        self.profiles = list(profiles)
        self.parameters = first.parameters
        self.batches = sorted({profile.batch for profile in profiles if profile.batch > 0})
        self.spread = min(profile.spread for profile in profiles)
        self.combine = min(profile.combine for profile in profiles)
        self.polling = min((p.polling for p in profiles if p.ranks > 1), default=0.0)
        self.cores = first.cores if cores is None else checks.integer("cores", cores, 1)
        self.threads = first.threads

    @property
    def gradient_bytes(self) -> int:
        """Bytes of all gradients."""
        return self.profiles[0].gradient_bytes

    def has_idle_cores(self, sharing: int) -> bool:
        """Say whether so many ranks on a machine leave a core each for reductions."""
        return sharing * (self.threads + 1) <= self.cores

    def times(self, batch: float, sharing: int) -> Times:
        """Return a mean rank's times.

        Args:
            batch: rows of a rank; 0: as profiled, where the loss did not say.
            sharing: ranks on its machine.
        """
        # Those that shared caches and memory most as here.
        distance = min(abs(math.log(sharing / profile.sharing)) for profile in self.profiles)
        near = [p for p in self.profiles if math.isclose(abs(math.log(sharing / p.sharing)), distance)]
        crowding = self._crowding(sharing, self.cores) / self._crowding(near[0].sharing, near[0].cores)
        forward = _at(batch, [(p.batch, p.forward) for p in near])
        backward = _at(batch, [(p.batch, p.backward) for p in near])
        return Times(forward, backward, float(np.mean([p.update for p in near]))).scaled(crowding)

    def _crowding(self, sharing: int, cores: int) -> float:
        return max(1.0, sharing * self.threads / cores)


def _at(batch: float, points: Sequence[tuple[float, float]]) -> float:
    """Return the time at a batch, by points (batch, seconds)."""
    batches = {at for at, _ in points}
    if not batch or 0 in batches:
        return float(np.mean([seconds for _, seconds in points]))
    if len(batches) > 1:
        slope, fixed = np.polyfit(np.array(points)[:, 0], np.array(points)[:, 1], 1)
        if slope > 0 and fixed >= 0:
            return float(fixed + slope * batch)
    return batch * sum(seconds for _, seconds in points) / sum(at for at, _ in points)
