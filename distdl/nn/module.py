"""`Module`: the base of layers and models."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..autograd import Parameter, Tensor
from ..autograd.parameter import forget_gradient
from ..core import checks, spans
from ..core.errors import ArgumentError

Remove = Callable[[], None]


class Module:
    """A part of a model: it holds parameters, buffers and other modules, and computes in `forward`.

    Attributes register themselves: a `Parameter` or a `Module` that is assigned becomes part of
    this one. Arrays that belong to the state but have no gradient are buffers (`register_buffer`).
    """

    training: bool

    def __init__(self) -> None:
        for table in ("_parameters", "_buffers", "_modules"):
            object.__setattr__(self, table, {})
        for hooks in ("_pre_hooks", "_forward_hooks", "_backward_hooks"):
            object.__setattr__(self, hooks, [])
        object.__setattr__(self, "training", True)

    # --- registration ---

    def __setattr__(self, name: str, value: Any) -> None:
        if "_parameters" not in self.__dict__:
            raise checks.bad_type("self", type(self).__name__, "must call super().__init__() before it sets attributes")
        if isinstance(value, Parameter):
            self._register(self._parameters, name, value)
        elif isinstance(value, Module):
            self._register(self._modules, name, value)
        elif name in self._buffers and isinstance(value, np.ndarray):
            self._register(self._buffers, name, value)
        elif name in self._parameters and value is not None:
            raise checks.bad_type(
                name, type(value).__name__, "is a parameter and can be set to a Parameter or None only"
            )
        else:
            self._forget(name)
            object.__setattr__(self, name, value)

    def _register(self, table: dict[str, Any], name: str, value: Any) -> None:
        if name not in table:
            self._forget(name)
        # What is replaced keeps its place: a Sequential runs in this order.
        table[name] = value
        # Here too, where Python looks first: `__getattr__` would cost more than a small operation.
        self.__dict__[name] = value

    def _forget(self, name: str) -> None:
        for table in (self._parameters, self._buffers, self._modules, self.__dict__):
            table.pop(name, None)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        if not any(name in table for table in (self._parameters, self._buffers, self._modules, self.__dict__)):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        self._forget(name)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Add a parameter; None keeps the name without one."""
        setattr(self, name, parameter)

    def register_buffer(self, name: str, array: np.ndarray) -> None:
        """Add an array to the state: saved, broadcast and cast with the parameters, without a gradient."""
        if not isinstance(array, np.ndarray):
            raise checks.bad_type("array", array, f"of buffer {name!r} must be a NumPy array")
        self._register(self._buffers, name, array)

    def register_module(self, name: str, module: Module) -> None:
        """Add a module under a name."""
        if not isinstance(module, Module):
            raise checks.bad_type(name, module, "must be a Module")
        setattr(self, name, module)

    # --- walking ---

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield this module and all within it, each once, with dotted names."""
        yield from self._named_modules(prefix, set())

    def _named_modules(self, prefix: str, seen: set[int]) -> Iterator[tuple[str, Module]]:
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, module in self._modules.items():
            yield from module._named_modules(f"{prefix}.{name}" if prefix else name, seen)

    def modules(self) -> Iterator[Module]:
        """Yield this module and all within it, each once."""
        return (module for _, module in self.named_modules())

    def children(self) -> Iterator[Module]:
        """Yield the modules that this one holds directly."""
        return iter(self._modules.values())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the modules that this one holds directly, with their names."""
        return iter(self._modules.items())

    def _named(self, table: str, prefix: str, once: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix):
            for name, value in getattr(module, table).items():
                if once and id(value) in seen:
                    continue
                seen.add(id(value))
                yield f"{path}.{name}" if path else name, value

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Yield the parameters with dotted names; one that is shared comes once, under its first name."""
        for name, parameter in self._named("_parameters", prefix, once=True):
            parameter.name = name
            yield name, parameter

    def parameters(self) -> Iterator[Parameter]:
        """Yield the parameters, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
        """Yield the buffers with dotted names."""
        return self._named("_buffers", prefix, once=True)

    def buffers(self) -> Iterator[np.ndarray]:
        """Yield the buffers."""
        return (buffer for _, buffer in self.named_buffers())

    def apply(self, function: Callable[[Module], Any]) -> Module:
        """Call `function` on every module within, this one last, and return this one."""
        for module in reversed(list(self.modules())):
            function(module)
        return self

    # --- state ---

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the arrays of all parameters and buffers by name: the arrays themselves, not copies."""
        state = {name: parameter.data for name, parameter in self._named("_parameters", "", once=False)}
        state.update(self._named("_buffers", "", once=False))
        return state

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Copy arrays into the parameters and buffers of the same names.

        Args:
            state: as `state_dict` returns it.
            strict: raise on names that are missing or unknown; else pass over them.

        Raises:
            ArgumentError: names, or a shape, do not fit; nothing was copied then.
        """
        own = self.state_dict()
        if strict and own.keys() != state.keys():
            missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
            raise ArgumentError(f"`state` does not fit the model: missing names {missing}, unknown names {unknown}")
        arrays = {name: np.asarray(_values(state[name])) for name in own if name in state}
        for name, array in arrays.items():
            if array.shape != own[name].shape:
                raise checks.bad_value(f"state[{name!r}]", f"shape {array.shape}", f"must have shape {own[name].shape}")
            if not np.can_cast(array.dtype, own[name].dtype, "same_kind"):
                raise checks.bad_type(f"state[{name!r}]", array.dtype, f"cannot be cast to {own[name].dtype}")
        for name, array in arrays.items():
            own[name][...] = array
        for parameter in self.parameters():
            parameter._version[0] += 1

    # --- modes ---

    def train(self, mode: bool = True) -> Module:
        """Set training mode (dropout drops, batch norm takes the batch's statistics), and return the module."""
        for module in self.modules():
            object.__setattr__(module, "training", bool(mode))
        return self

    def eval(self) -> Module:
        """Set evaluation mode, and return the module."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Freeze (False) or unfreeze all parameters, and return the module."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters():
            forget_gradient(parameter)

    def astype(self, dtype: Any) -> Module:
        """Cast parameters and floating buffers to float32 or float64 in place, and return the module."""
        dtype = np.dtype(dtype)
        checks.one_of("dtype", dtype.name, ("float32", "float64"))
        if any(parameter._owner is not None for parameter in self.parameters()):
            raise checks.bad_value("dtype", dtype.name, "cannot change after a synchronizer took the parameters")
        for module in self.modules():
            for parameter in module._parameters.values():
                parameter._data = parameter._data.astype(dtype)
                parameter._version[0] += 1
                parameter.grad = parameter._buffer = None
            for name, buffer in module._buffers.items():
                if buffer.dtype.kind == "f":
                    module._register(module._buffers, name, buffer.astype(dtype))
        return self

    # --- computing ---

    def forward(self, *args: Any, **options: Any) -> Any:
        """Compute; every module defines its own."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args: Any, **options: Any) -> Any:
        run = self.forward
        if self._pre_hooks or self._forward_hooks or self._backward_hooks:
            run = self._run_hooked
        recorder = spans.recorder
        if recorder is None:
            return run(*args, **options)
        return recorder.run_module(self, run, *args, **options)

    @property
    def has_hooks(self) -> bool:
        """Whether hooks see what this module computes."""
        return bool(self._pre_hooks or self._forward_hooks or self._backward_hooks)

    def _run_hooked(self, *args: Any, **options: Any) -> Any:
        for pre_hook in self._pre_hooks:
            changed = pre_hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        result = self.forward(*args, **options)
        for hook in self._forward_hooks:
            changed = hook(self, args, result)
            result = result if changed is None else changed
        if self._backward_hooks and isinstance(result, Tensor) and result.requires_grad:
            if result.is_leaf:
                # Handed through: a hook on the leaf itself would stay there.
                result = result.copy()
            for backward_hook in self._backward_hooks:
                result.register_hook(functools.partial(backward_hook, self))
        return result

    def register_forward_pre_hook(self, hook: Callable[[Module, tuple[Any, ...]], Any]) -> Remove:
        """Call `hook(module, args)` before forward; a result that is not None replaces the arguments."""
        return _add_hook(self._pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[[Module, tuple[Any, ...], Any], Any]) -> Remove:
        """Call `hook(module, args, result)` after forward; a result that is not None replaces the result."""
        return _add_hook(self._forward_hooks, hook)

    def register_backward_hook(self, hook: Callable[[Module, np.ndarray], Any]) -> Remove:
        """Call `hook(module, gradient)` with the gradient of the module's result; a result replaces it."""
        return _add_hook(self._backward_hooks, hook)

    def extra_repr(self) -> str:
        """Return what stands in the parentheses of the printed module."""
        return ""

    def __repr__(self) -> str:
        if not self._modules:
            return f"{type(self).__name__}({self.extra_repr()})"
        lines = [f"({name}): " + repr(module).replace("\n", "\n  ") for name, module in self._modules.items()]
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"


def _values(entry: Any) -> Any:
    return entry.data if isinstance(entry, Tensor) else entry


def _add_hook(hooks: list[Any], hook: Any) -> Remove:
    hooks.append(hook)

    def remove() -> None:
        if hook in hooks:
            hooks.remove(hook)

    return remove
