"""The interface between the tape and whoever owns parameters' gradients (the gradient synchronizer)."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol


class GradientOwner(Protocol):
    """Someone who must know when gradients of its parameters are written: it reduces them over ranks.

    A parameter with an owner has its gradient written into `parameter._buffer`, a view of a flat buffer.

    Attributes:
        order: a number that puts the owners into the same order on every rank.
    """

    order: int

    @property
    def is_watching(self) -> bool:
        """Whether to call `expect` and `written` in a pass that has begun."""

    def begin_backward(self, weight: float | None) -> float:
        """A backward pass that reaches one of the parameters is about to start.

        `weight` says how much this rank's gradient counts (None: like any other's). Returns a factor
        for the gradient that the pass starts from.
        """

    def expect(self, leaves: Sequence[Any]) -> None:
        """Hear which parameters the pass reaches: for each, `written` follows."""

    def written(self, leaf: Any) -> None:
        """The pass changes the gradient of this parameter no more; other gradients are still to come."""

    def end_backward(self) -> None:
        """The pass is over: the gradients are written."""

    def settle(self) -> None:
        """`.grad` is about to be read: if ranks have not met since the last step, let them meet."""

    def stepped(self) -> None:
        """The optimizer has used the gradients."""


def owners_of(tensors: Iterable[Any]) -> list[GradientOwner]:
    """Return the owners of these tensors' gradients, each once, in the order in which they were made owners."""
    found: dict[int, GradientOwner] = {}
    for tensor in tensors:
        owner = tensor._owner
        if owner is not None:
            found[id(owner)] = owner
    return sorted(found.values(), key=lambda owner: owner.order) if len(found) > 1 else list(found.values())


def settle_gradients(tensors: Iterable[Any]) -> None:
    """Make sure that `.grad` of each tensor is the global gradient, also on a rank that had no part in the step."""
    for owner in owners_of(tensors):
        owner.settle()
