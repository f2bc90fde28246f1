"""Modules that hold modules."""

from collections.abc import Iterator
from typing import Any

from ..core import checks
from .module import Module


class Sequential(Module):
    """Modules applied one after another; without any, the identity.

    Args:
        modules: what to apply, first to last.
    """

    def __init__(self, *modules: Module):
        super().__init__()
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                raise checks.bad_type(f"modules[{i}]", module, "must be a Module")
            self.register_module(str(i), module)

    def forward(self, x: Any) -> Any:
        for module in self._modules.values():
            x = module(x)
        return x

    def append(self, module: Module) -> "Sequential":
        """Add a module at the end, and return the whole."""
        self.register_module(str(len(self)), module)
        return self

    def __getitem__(self, index: int) -> Module:
        modules: list[Module] = list(self._modules.values())
        return modules[index]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())


class ModuleList(Module):
    """A list of modules that registers them; it computes nothing itself."""

    def __init__(self, modules: Any = ()):
        super().__init__()
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> "ModuleList":
        """Add a module at the end, and return the list."""
        self.register_module(str(len(self)), module)
        return self

    def __getitem__(self, index: int) -> Module:
        modules: list[Module] = list(self._modules.values())
        return modules[index]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())
