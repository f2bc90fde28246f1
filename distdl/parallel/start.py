"""How ranks come to hold equal replicas: compare what must agree, then take rank 0's values."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..autograd import Parameter
from ..core import random
from ..core.errors import PeerError
from ..optim import Optimizer
from .digest import digest

if TYPE_CHECKING:
    from ..comm import Communicator


def broadcast_start(
    comm: "Communicator",
    named_parameters: Sequence[tuple[str, Parameter]],
    named_buffers: Sequence[tuple[str, np.ndarray]],
) -> None:
    """Compare names, shapes and dtypes on all ranks, then give all rank 0's values, and its seed for keyed draws.

    Raises:
        PeerError: the ranks hold different models; the message names the first difference.
    """
    arrays = [(name, parameter.data) for name, parameter in named_parameters] + list(named_buffers)
    frozen = {name for name, parameter in named_parameters if not parameter.requires_grad}
    mine = [[name, list(array.shape), array.dtype.name + " frozen" * (name in frozen)] for name, array in arrays]
    for rank, theirs in enumerate(_all_if_apart(comm, mine)):
        difference = first_difference(mine, theirs)
        if difference is not None:
            raise PeerError(
                f"ranks {comm.rank} and {rank} hold different models: rank {comm.rank} has "
                f"{_describe(mine, difference)} where rank {rank} has {_describe(theirs, difference)}"
            )
    for _, array in arrays:
        comm.broadcast(array)
    for _, parameter in named_parameters:
        parameter._version[0] += 1
    random.share_seed(comm.broadcast_object(random.get_seed()))


def _all_if_apart(comm: "Communicator", mine: Any) -> list[Any]:
    """Return the JSON-like values of all ranks; none where they are equal, which takes no room for many."""
    return [] if comm.all_equal(mine) else comm.allgather_object(mine)


class Disagreement(NamedTuple):
    """A value that one rank has otherwise than rank 0."""

    rank: int
    name: str
    first: Any
    other: Any


def disagreement(comm: "Communicator", mine: dict[str, Any]) -> Disagreement | None:
    """Compare JSON-like values, of the same names on all ranks; return the first that is not rank 0's, or None."""
    everywhere = _all_if_apart(comm, mine)
    for rank, theirs in enumerate(everywhere):
        for name, value in theirs.items():
            if value != everywhere[0].get(name):
                return Disagreement(rank, name, everywhere[0].get(name), value)
    return None


def compare_options(comm: "Communicator", groups: Sequence[dict[str, Any]]) -> None:
    """Compare the options of parameter groups on all ranks.

    Raises:
        PeerError: they differ; the message names group, option and values.
    """
    mine = [{name: repr(group[name]) for name in sorted(group) if name not in ("params", "names")} for group in groups]
    everywhere = _all_if_apart(comm, mine)
    for rank, theirs in enumerate(everywhere):
        if len(theirs) != len(everywhere[0]):
            raise PeerError(
                f"the optimizers differ: rank 0 has {len(everywhere[0])} groups, rank {rank} has {len(theirs)}"
            )
        for i, (first, group) in enumerate(zip(everywhere[0], theirs, strict=True)):
            for name, value in group.items():
                if value != first.get(name):
                    raise PeerError(
                        f"the optimizers differ: group {i} has {name} = {first.get(name)} on rank 0, "
                        f"{value} on rank {rank}"
                    )


def compare_states(comm: "Communicator", optimizer: Optimizer) -> None:
    """Compare the state of an optimizer (its momenta) on all ranks.

    Raises:
        PeerError: they differ; the message names ranks and parameter.
    """
    names = [name for name, _ in optimizer.named_parameters()]
    everywhere = _all_if_apart(comm, {n: digest(s) for n, s in zip(names, optimizer.state, strict=True) if s})
    for rank, theirs in enumerate(everywhere):
        rule = "load the same state on all ranks"
        if theirs.keys() != everywhere[0].keys():
            raise PeerError(
                f"the optimizers differ: rank 0 has a state of {len(everywhere[0])} parameters, "
                f"rank {rank} of {len(theirs)}: {rule}"
            )
        for name, value in theirs.items():
            if value != everywhere[0][name]:
                raise PeerError(
                    f"the optimizers differ: the state of {name!r} on rank {rank} is not that on rank 0: {rule}"
                )


def first_difference(mine: list[Any], theirs: list[Any]) -> int | None:
    """Return the first place at which two lists differ, or None."""
    for i in range(max(len(mine), len(theirs))):
        if mine[i : i + 1] != theirs[i : i + 1]:
            return i
    return None


def _describe(entries: list[Any], i: int) -> str:
    if i >= len(entries):
        return "nothing more"
    name, shape, dtype = entries[i]
    return f"{name!r} {dtype} {tuple(shape)}"
