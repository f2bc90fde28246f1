"""Modules that hold modules."""

from collections.abc import Iterable, Iterator
from typing import Any, Self

from ..core import checks
from .activation import ReLU
from .conv import Conv2d
from .linear import Linear
from .module import Module

# What computes as these define it: a subclass, or a forward() put in later, may do anything.
_FORWARDS: dict[type, Any] = {kind: kind.forward for kind in (Conv2d, Linear, ReLU)}


def _is_plain(module: Module) -> bool:
    """Say whether a module is exactly one of ours that can be joined with a ReLU, or a ReLU, and nothing looks on."""
    kind = type(module)
    return _FORWARDS.get(kind) is kind.forward and "forward" not in module.__dict__ and not module.has_hooks


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

    A ReLU directly behind a Conv2d or Linear runs as part of it, with the same bits, where no hook looks on.

    Args:
        modules: what to apply, first to last.
    """

    def __init__(self, *modules: Module):
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        modules = iter(self._modules.values())
        module = next(modules, None)
        while module is not None:
            following = next(modules, None)
            if type(following) is ReLU and type(module) is not ReLU and _is_plain(module) and _is_plain(following):
                x = module(x, relu=True)
                following = next(modules, None)
            else:
                x = module(x)
            module = following
        return x


class ModuleList(_Container):
    """A list of modules that registers them; it computes nothing itself.

    Args:
        modules: the first ones.
    """

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__(modules)
