"""Stochastic gradient descent."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..autograd import Parameter
from ..core import checks
from ..kernels.optim import sgd_segments, sgd_update
from .optimizer import Optimizer
from .segments import Segments

# Stands in for the velocity where there is no momentum.
_NONE = {np.dtype(name): np.zeros(0, name) for name in ("float32", "float64")}


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (B. Polyak 1964) or Nesterov's form of it.

        g = gradient + weight_decay * p
        v = momentum * v + (1 - dampening) * g        (v = g at the first step)
        p = p - lr * (g + momentum * v if nesterov else v)

    as PyTorch has it (I. Sutskever et al., "On the importance of initialization and momentum", ICML 2013, section 2).

    Args:
        parameters: see `Optimizer`.
        lr: learning rate.
        momentum, dampening, weight_decay: as above.
        nesterov: needs momentum, and no dampening.
    """

    state_keys = ("velocity",)

    def __init__(
        self,
        parameters: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        options = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(parameters, options)

    def check(self, group: Mapping[str, Any]) -> None:
        for name in ("lr", "momentum", "dampening", "weight_decay"):
            checks.real(name, group[name], 0.0)
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise checks.bad_value("nesterov", True, "needs `momentum` > 0 and `dampening` = 0")

    def update(self, parameter: Parameter, gradient: np.ndarray, state: dict[str, Any], group: dict[str, Any]) -> None:
        first = bool(group["momentum"]) and "velocity" not in state
        if first:
            state["velocity"] = np.zeros_like(parameter.data)
        velocity = state["velocity"] if group["momentum"] else _NONE[parameter.dtype]
        sgd_update(
            parameter.data.reshape(-1),
            gradient.reshape(-1),
            velocity.reshape(-1),
            group["lr"],
            group["momentum"],
            group["dampening"],
            group["weight_decay"],
            group["nesterov"],
            first,
        )

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return ("velocity",) if group["momentum"] else ()

    def update_segments(self, segments: Segments, states: list[dict[str, Any]], group: dict[str, Any]) -> bool:
        segments.share(
            sgd_segments,
            group["lr"],
            group["momentum"],
            group["dampening"],
            group["weight_decay"],
            group["nesterov"],
        )
        return True
