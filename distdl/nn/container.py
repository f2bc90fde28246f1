"""Modules that hold modules."""

from collections.abc import Iterable, Iterator
from typing import Any, Self

from ..core import checks
from .module import Module


class _Container(Module):
    """What modules that hold a list of modules share."""

    def __init__(self, modules: Iterable[Module]):
        super().__init__()
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> Self:
        """Add a module at the end, and return the whole."""
        if not isinstance(module, Module):
            raise checks.bad_type(f"modules[{len(self)}]", module, "must be a Module")
        self.register_module(str(len(self)), module)
        return self

    def __getitem__(self, index: int) -> Module:
        modules: list[Module] = list(self._modules.values())
        return modules[index]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())


class Sequential(_Container):
    """Modules applied one after another; without any, the identity.

    Args:
        modules: what to apply, first to last.
    """

    def __init__(self, *modules: Module):
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        for module in self._modules.values():
            x = module(x)
        return x


class ModuleList(_Container):
    """A list of modules that registers them; it computes nothing itself.

    Args:
        modules: the first ones.
    """

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__(modules)
