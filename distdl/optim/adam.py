"""Adam and AdamW."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..autograd import Parameter
from ..core import checks
from ..kernels.optim import adam_segments, adam_update
from .optimizer import Optimizer
from .segments import Segments


class Adam(Optimizer):
    """Adam (D. Kingma, J. Ba, ICLR 2015, algorithm 1).

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        p = p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        parameters: see `Optimizer`.
        lr: learning rate.
        betas: (beta1, beta2), both within [0, 1).
        eps: added to the denominator.
        weight_decay: times p, added to the gradient.
    """

    decoupled = False
    state_keys = "step", "mean", "square"

    def __init__(
        self,
        parameters: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def check(self, group: Mapping[str, Any]) -> None:
        for name in ("lr", "eps", "weight_decay"):
            checks.real(name, group[name], 0.0)
        betas = group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise checks.bad_type("betas", betas, "must be a pair of numbers")
        for i in range(2):
            checks.real(f"betas[{i}]", betas[i], 0.0, below=1.0)

    def update(self, parameter: Parameter, gradient: np.ndarray, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(step=0, mean=np.zeros_like(parameter.data), square=np.zeros_like(parameter.data))
        state["step"] += 1
        beta1, beta2 = group["betas"]
        adam_update(
            parameter.data.reshape(-1),
            gradient.reshape(-1),
            state["mean"].reshape(-1),
            state["square"].reshape(-1),
            group["lr"],
            beta1,
            beta2,
            group["eps"],
            group["weight_decay"],
            self.decoupled,
            1 - beta1 ** state["step"],
            1 - beta2 ** state["step"],
        )

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return "mean", "square"

    def update_segments(self, segments: Segments, states: list[dict[str, Any]], group: dict[str, Any]) -> bool:
        steps = {state["step"] for state in states}
        if len(steps) > 1:
            return False
        step = steps.pop() + 1
        for state in states:
            state["step"] = step
        beta1, beta2 = group["betas"]
        segments.share(
            adam_segments,
            group["lr"],
            beta1,
            beta2,
            group["eps"],
            group["weight_decay"],
            self.decoupled,
            1 - beta1**step,
            1 - beta2**step,
        )
        return True


class AdamW(Adam):
    """Adam with decoupled weight decay, p = p - lr * weight_decay * p (I. Loshchilov, F. Hutter, ICLR 2019).

    Args:
        parameters, lr, betas, eps: as in `Adam`.
        weight_decay: as above.
    """

    decoupled = True

    def __init__(
        self,
        parameters: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        super().__init__(parameters, lr, betas, eps, weight_decay)
