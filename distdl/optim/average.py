"""Averages of weights over the steps of a training, which often generalise better than the last weights."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..core import checks
from ..kernels.optim import average_update
from ..kernels.registry import dense
from .optimizer import distinct, name_parameters


class ExponentialMovingAverage:
    """Keeps average += (1 - decay) * (weight - average) for every parameter (B. Polyak, A. Juditsky, 1992).

        average = optim.ExponentialMovingAverage(model, decay=0.999)
        ...
            optimizer.step()
            average.update()
        with average.applied():
            trainer.evaluate(held_out)

    The parameters are the same on all ranks after a step, and so are their averages: no rank need be asked.

    Args:
        parameters: a `Module`, (name, parameter) pairs, or parameters.
        decay: how much of the average is kept at an update.
        warmup: use min(decay, (1 + n) / (10 + n)) at update n = 1, 2, ..., so that early averages are not the
            initial weights.

    Attributes:
        updates: how many there have been.
        averages: the arrays, by name.
    """

    def __init__(self, parameters: Any, decay: float = 0.999, warmup: bool = False):
        self.decay = checks.real("decay", decay, 0.0, 1.0)
        self.warmup = bool(warmup)
        self.updates = 0
        names, plain = name_parameters(parameters)
        if not plain:
            raise checks.bad_value("parameters", [], "must not be empty")
        self._parameters = dict(zip(distinct(names, set()), plain, strict=True))
        self.averages = {name: parameter.data.copy() for name, parameter in self._parameters.items()}

    def update(self) -> None:
        """Take in the weights as they are now; call it after each step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        for name, parameter in self._parameters.items():
            average_update(self.averages[name].reshape(-1), dense(parameter.data).reshape(-1), decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the parameters have their averages; afterwards their own values again."""
        own = {name: parameter.data.copy() for name, parameter in self._parameters.items()}
        self._write(self.averages)
        try:
            yield
        finally:
            self._write(own)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of updates, and copies of the averages by name."""
        return {"updates": self.updates, "averages": {name: array.copy() for name, array in self.averages.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            ArgumentError: it is of other parameters.
        """
        averages = state["averages"]
        for name, array in self.averages.items():
            if name not in averages or np.shape(averages[name]) != array.shape:
                found = f"shape {np.shape(averages[name])}" if name in averages else "nothing"
                raise checks.bad_value("state", found, f"must have {name!r} of shape {array.shape}")
        if len(averages) != len(self.averages):
            raise checks.bad_value("state", sorted(averages), f"must have exactly {sorted(self.averages)}")
        self.updates = checks.integer("state['updates']", state["updates"], 0)
        for name, array in self.averages.items():
            array[...] = averages[name]

    def _write(self, values: Mapping[str, np.ndarray]) -> None:
        for name, parameter in self._parameters.items():
            # In place: optimizers know where the parameters lie.
            parameter.data[...] = values[name]
            parameter._version[0] += 1
