"""Modules that hold modules."""

from collections.abc import Iterable, Iterator
from typing import Any, Self

from ..core import checks
from ..ops.batch import Moments
from .activation import ReLU
from .conv import Conv2d
from .linear import Linear
from .module import Module
from .norm import BatchNorm1d, BatchNorm2d
from .pool import MaxPool2d
from .sync_norm import SyncBatchNorm

# What computes as these define it: a subclass, or a forward() put in later, may do anything.
_JOINABLE = Conv2d, Linear, BatchNorm1d, BatchNorm2d, SyncBatchNorm
_FORWARDS: dict[type, Any] = {kind: kind.forward for kind in (*_JOINABLE, ReLU, MaxPool2d)}


def _is_plain(module: Module) -> bool:
    """Say whether a module is exactly one of ours that can be joined with others, and nothing looks on."""
    kind = type(module)
    return _FORWARDS.get(kind) is kind.forward and "forward" not in module.__dict__ and not module.has_hooks


def _joined(modules: list[Module], first: int) -> dict[str, bool]:
    """Return which of the modules behind one can run as part of it, as options of its forward()."""
    module = modules[first]
    options: dict[str, bool] = {}
    if not isinstance(module, _JOINABLE) or not _is_plain(module):
        return options
    following = iter(modules[first + 1 : first + 3])
    behind = next(following, None)
    if type(behind) is ReLU and _is_plain(behind):
        options["relu"] = True
        behind = next(following, None)
    # Kernels of groups and of dilated convolutions do not pool.
    able = isinstance(module, Conv2d) and module.groups == 1 and module.dilation == (1, 1)
    if able and type(behind) is MaxPool2d and _is_plain(behind) and behind.halves:
        options["pool"] = True
    return options


def _meets_norm(modules: list[Module], first: int) -> bool:
    """Say whether a module is a convolution whose result a batch norm takes: it can take the moments on the way."""
    if type(modules[first]) is not Conv2d or first + 1 == len(modules):
        return False
    norm = modules[first + 1]
    return type(norm) is BatchNorm2d and norm.takes_moments and _is_plain(modules[first]) and _is_plain(norm)


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

    def __getitem__(self, index: Any) -> Any:
        """Return a module, or for a slice a container of the same kind that shares its modules."""
        modules: list[Module] = list(self._modules.values())
        return self._of(modules[index]) if isinstance(index, slice) else modules[index]

    def _of(self, modules: list[Module]) -> Any:
        return type(self)(modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())


class Sequential(_Container):
    """Modules applied one after another; without any, the identity.

    A ReLU directly behind a Conv2d, Linear or batch norm runs as part of it, where no hook looks on; so does a
    MaxPool2d of 2x2 windows behind a Conv2d, with or without a ReLU between. What comes out is the same. A Conv2d
    directly before a BatchNorm2d takes the moments of its result while it writes it: the last bit may differ from
    those that the norm would take.

    Args:
        modules: what to apply, first to last.
    """

    def __init__(self, *modules: Module):
        super().__init__(modules)

    def _of(self, modules: list[Module]) -> Any:
        return type(self)(*modules)

    def forward(self, x: Any) -> Any:
        modules = list(self._modules.values())
        i = 0
        moments: Moments | None = None
        while i < len(modules):
            options: dict[str, Any] = _joined(modules, i)
            step = 1 + len(options)
            if moments is not None:
                options["moments"], moments = moments, None
            elif _meets_norm(modules, i):
                options["moments"] = moments = Moments()
            x = modules[i](x, **options)
            i += step
        return x


class ModuleList(_Container):
    """A list of modules that registers them; it computes nothing itself.

    Args:
        modules: the first ones.
    """

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__(modules)
