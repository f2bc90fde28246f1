"""`Optimizer`: the base of the update rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..autograd import Parameter, Tensor, no_grad, settle_gradients
from ..autograd.owner import owners_of
from ..autograd.parameter import forget_gradient
from ..core import checks, spans
from ..core.errors import ArgumentError
from .segments import Segments

Entry = tuple[Parameter, np.ndarray, dict[str, Any]]
"""A parameter, its gradient, its state."""


class Optimizer:
    """Holds parameters in groups, and updates them from their gradients.

    A rule defines `update(parameter, gradient, state, group)`, and checks its options in `check`. It may
    define `state_names` and `update_segments` too, to update many parameters by one call of a kernel, and
    `state_keys`, what a parameter's state holds, to have loaded states checked.

    Args:
        parameters: parameters; (name, parameter) pairs; dicts with "params" and the group's own
            options; or a `Module`.
        defaults: the rule's options, by name.

    Attributes:
        param_groups: dicts of "params", "names" and options; changing an option takes effect at the next step.
        state: for each parameter, in the order of the groups, a dict of arrays and numbers.
    """

    state_keys: tuple[str, ...] = ()

    def __init__(self, parameters: Any, defaults: Mapping[str, Any]):
        self.defaults = dict(defaults)
        self.param_groups: list[dict[str, Any]] = []
        self.state: list[dict[str, Any]] = []
        self._segments: dict[int, Segments] = {}
        for group in _groups(parameters):
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add a group: "params" and options that differ from the defaults."""
        if "params" not in group:
            raise checks.bad_value("group", sorted(group), 'must have "params"')
        names, parameters = name_parameters(group["params"])
        self._check_options(group.keys() - {"params"})
        known = {id(parameter) for parameter in self.parameters()}
        names = distinct(names, {name for name, _ in self.named_parameters()})
        for name, parameter in zip(names, parameters, strict=True):
            if id(parameter) in known:
                raise checks.bad_value("parameters", name, "is given twice")
            known.add(id(parameter))
        full = {**self.defaults, **group, "params": parameters, "names": names}
        self.check(full)
        self.param_groups.append(full)
        self.state.extend({} for _ in parameters)

    def _check_options(self, names: Iterable[str]) -> None:
        unknown = set(names) - self.defaults.keys() - {"initial_lr"}
        if unknown:
            raise ArgumentError(f"unknown options {sorted(unknown)} in a parameter group of {type(self).__name__}")

    def check(self, group: Mapping[str, Any]) -> None:
        """Raise if an option of a group breaks a rule."""
        raise NotImplementedError

    def update(self, parameter: Parameter, gradient: np.ndarray, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Update one parameter in place; `state` is its own, empty at first. Its values are C-contiguous."""
        raise NotImplementedError

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...] | None:
        """Name the arrays of a parameter's state that `update_segments` needs; None: it does not exist."""
        return None

    def update_segments(self, segments: Segments, states: list[dict[str, Any]], group: dict[str, Any]) -> bool:
        """Update several parameters in place, as `update` would, to the bit; False: nothing was done.

        `states` are the parameters' own, where all arrays of `state_names` are there already.
        """
        return False

    def parameters(self) -> list[Parameter]:
        """Return the parameters of all groups, in order."""
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        """Return (name, parameter) of all groups, in order."""
        return [pair for group in self.param_groups for pair in zip(group["names"], group["params"], strict=True)]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters():
            forget_gradient(parameter)

    def step(self) -> None:
        """Update every parameter that has a gradient.

        Raises:
            ArgumentError: a gradient has not its parameter's shape, or an option of a group has come to
                break its rule; nothing was updated then.
        """
        parameters = self.parameters()
        settle_gradients(parameters)
        work = self._work()
        with spans.span(f"{type(self).__name__}.step", "step"), no_grad():
            for index, (group, entries) in enumerate(zip(self.param_groups, work, strict=True)):
                for parameter, gradient, state in self._update_together(index, entries, group):
                    self._update(parameter, gradient, state, group)
                for parameter, _, _ in entries:
                    parameter._version[0] += 1
        for owner in owners_of(parameters):
            owner.stepped()

    def _work(self) -> list[list[Entry]]:
        """Return for each group the parameters that are to be updated, after looking at all gradients' shapes."""
        states = iter(self.state)
        work = []
        for group in self.param_groups:
            self.check(group)
            entries: list[Entry] = []
            for name, parameter, state in zip(group["names"], group["params"], states, strict=False):
                gradient = parameter.grad
                if gradient is None:
                    continue
                if type(gradient) is not np.ndarray:
                    gradient = np.asarray(gradient)
                if gradient.shape != parameter._data.shape:
                    raise _bad_shape(f"{name}.grad", gradient, parameter)
                if parameter._requires_grad:
                    entries.append((parameter, gradient, state))
            work.append(entries)
        return work

    def _update_together(self, index: int, entries: list[Entry], group: dict[str, Any]) -> list[Entry]:
        """Update what one kernel call can, and return the rest."""
        names = self.state_names(group)
        if names is None or not entries:
            return entries
        rows = [
            (gradient, parameter._data, *[state.get(name) for name in names]) for parameter, gradient, state in entries
        ]
        segments = self._segments.setdefault(index, Segments())
        segments.follow(rows)
        states = [entries[i][2] for i in segments.members]
        if not states or not self.update_segments(segments, states, group):
            return entries
        return [entries[i] for i in segments.others]

    def _update(self, parameter: Parameter, gradient: np.ndarray, state: dict[str, Any], group: dict[str, Any]) -> None:
        data = parameter._data
        if data.flags.c_contiguous:
            self.update(parameter, gradient, state, group)
        else:
            # A kernel gets a flat view, which other layouts do not have.
            parameter._data = data.copy("C")
            self.update(parameter, gradient, state, group)
            data[...] = parameter._data
            parameter._data = data

    def state_dict(self) -> dict[str, Any]:
        """Return options and state: {"groups": [options], "state": {name: {key: array or number}}}.

        The arrays are the optimizer's own, not copies: the next step changes them.
        """
        groups = [{k: v for k, v in group.items() if k not in ("params", "names")} for group in self.param_groups]
        names = [name for name, _ in self.named_parameters()]
        return {"groups": groups, "state": {name: dict(s) for name, s in zip(names, self.state, strict=True)}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned; arrays are copied.

        Raises:
            ArgumentError: groups, names, options or shapes do not fit; nothing was taken over then.
        """
        if not {"groups", "state"} <= state.keys():
            raise checks.bad_value("state", sorted(state), 'must have "groups" and "state", as state_dict() gives it')
        groups, states = state["groups"], state["state"]
        names = [name for name, _ in self.named_parameters()]
        if len(groups) != len(self.param_groups) or set(names) != set(states):
            raise ArgumentError(
                f"`state` has {len(groups)} groups and parameters {sorted(states)}, "
                f"the optimizer {len(self.param_groups)} and {sorted(names)}"
            )
        for group, saved in zip(self.param_groups, groups, strict=True):
            self._check_options(saved)
            self.check({**group, **saved})
        for name in names:
            if self.state_keys and states[name] and set(states[name]) != set(self.state_keys):
                raise checks.bad_value(f"state[{name!r}]", sorted(states[name]), f"must hold {sorted(self.state_keys)}")
        loaded = [_copy(name, states[name], parameter) for name, parameter in self.named_parameters()]
        for group, saved in zip(self.param_groups, groups, strict=True):
            group.update(saved)
        self.state[:] = loaded


def _copy(name: str, state: Mapping[str, Any], parameter: Parameter) -> dict[str, Any]:
    for entry, value in state.items():
        if isinstance(value, np.ndarray) and value.shape != parameter.shape:
            raise _bad_shape(f"state[{name!r}][{entry!r}]", value, parameter)
    return {
        entry: np.array(value, parameter.dtype, order="C") if isinstance(value, np.ndarray) else value
        for entry, value in state.items()
    }


def _bad_shape(name: str, array: Any, parameter: Parameter) -> ArgumentError:
    return checks.bad_value(name, f"shape {np.shape(array)}", f"must have the parameter's shape {parameter.shape}")


def distinct(names: list[str], taken: set[str]) -> list[str]:
    """Number names that are there already: state is saved by name."""
    result = []
    for name in names:
        number, unique = 1, name
        while unique in taken:
            number += 1
            unique = f"{name} ({number})"
        taken.add(unique)
        result.append(unique)
    return result


def _groups(parameters: Any) -> list[Mapping[str, Any]]:
    if isinstance(parameters, Tensor):
        raise checks.bad_type(
            "parameters", parameters.shape, "must be several parameters, in a list or another iterable"
        )
    if hasattr(parameters, "named_parameters"):
        parameters = parameters.named_parameters()
    items = list(parameters)
    if not items:
        raise checks.bad_value("parameters", items, "must not be empty")
    if isinstance(items[0], Mapping):
        return items
    return [{"params": items}]


def name_parameters(parameters: Any) -> tuple[list[str], list[Parameter]]:
    """Return names and parameters of a parameter, several, (name, parameter) pairs, or a `Module`."""
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    if hasattr(parameters, "named_parameters"):
        parameters = parameters.named_parameters()
    names, plain = [], []
    items: Iterable[Any] = parameters
    for i, item in enumerate(items):
        name, parameter = item if isinstance(item, tuple) else (getattr(item, "name", ""), item)
        if not isinstance(parameter, Tensor) or not parameter.is_leaf or parameter.dtype.kind != "f":
            raise checks.bad_type(f"parameters[{i}]", parameter, "must be a Parameter (a float leaf tensor)")
        names.append(name or f"parameter {i}")
        plain.append(parameter)
    return names, plain  # type: ignore[return-value]
