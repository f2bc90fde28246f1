"""Fewer bytes on the wire between nodes: hooks that add up gradients, each a file."""

from typing import Any

from ...core import checks
from .halves import BF16, FP16
from .hook import Gradients, Hook
from .powersgd import PowerSGD
from .topk import TopK

__all__ = ["BF16", "FP16", "HOOKS", "Gradients", "Hook", "PowerSGD", "TopK", "make_hook"]

HOOKS: dict[str, type[Hook]] = {hook.name: hook for hook in (BF16, FP16, PowerSGD, TopK)}
"""By the names that `compression=` takes."""


def make_hook(compression: Any) -> Hook | None:
    """Return the hook that is meant by a name or is given, None for None.

    Raises:
        ArgumentError: there is none of that name.
        ArgumentTypeError: it is neither.
    """
    if isinstance(compression, str):
        made: Hook = HOOKS[checks.one_of("compression", compression, HOOKS)]()
        return made
    if compression is None or (isinstance(compression, Hook) and isinstance(getattr(compression, "name", None), str)):
        return compression
    raise checks.bad_type("compression", compression, "must be None, the name of a hook, or a Hook that has a name")
