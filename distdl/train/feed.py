"""What a fit is fed with: the loader of this rank, and the plan that all ranks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import Tensor
from ..core import checks
from ..core.errors import PeerError
from ..data import DataLoader, GlobalBatchSampler
from ..data.dataset import order_of
from ..parallel.start import disagreement

if TYPE_CHECKING:
    from ..comm import Communicator


@dataclass(frozen=True)
class Feed:
    """Batches of this rank, and which samples a step takes over all ranks.

    Attributes:
        loader: yields this rank's batches.
        batch_size: rows of a global batch; 0 for a loader that was given.
        steps, rows: of an epoch; 0 where a given loader does not say.
        shards: into how many a global batch is cut in reproducible mode, else 0.
        seed: of the shuffling.
        shares: how much of each global batch each rank gets, see `GlobalBatchSampler`.
    """

    loader: Any
    batch_size: int = 0
    steps: int = 0
    rows: int = 0
    shards: int = 0
    seed: int = 0
    shares: tuple[float, ...] = ()

    def plan(self) -> dict[str, Any]:
        """Return what says which samples a step takes, on any number of ranks."""
        return {
            "steps": self.steps,
            "rows": self.rows,
            "batch_size": self.batch_size,
            "shards": self.shards,
            "seed": self.seed,
        }

    def compare(self, comm: Communicator) -> None:
        """Raise unless all ranks will take the same steps: else some would wait for the others for ever."""
        apart = disagreement(comm, {**self.plan(), "shares": list(self.shares)})
        if apart is not None:
            raise PeerError(
                f"all ranks must take the same steps: rank 0 has {apart.name} = {apart.first} an epoch, "
                f"rank {apart.rank} has {apart.other}"
            )


def make_feed(
    comm: Communicator,
    data: Any,
    batch_size: int | None,
    transform: Callable[[Any], Any] | None,
    seed: int,
    shares: Sequence[float],
    shards: int,
) -> Feed:
    """Share a data set out among the ranks, or take a loader as it is; the arguments are those of `Trainer.fit`."""
    check_data(data)
    shares = tuple(float(share) for share in shares)
    if is_loader(data):
        given = {"batch_size": batch_size, "transform": transform, "shares": list(shares) or None}
        for name, value in given.items():
            if value is not None:
                raise checks.bad_value(name, value, "belongs to the loader that is given")
        steps = len(data) if hasattr(data, "__len__") else 0
        return Feed(data, steps=steps, shards=shards, seed=seed)
    if batch_size is None:
        raise checks.bad_value("batch_size", batch_size, "must be given with a data set: rows of the global batch")
    batch_size = checks.integer("batch_size", batch_size, 1)
    order = order_of(data)
    sampler = GlobalBatchSampler(
        len(data), batch_size, comm.rank, comm.size, shuffle=True, seed=seed, shards=shards, shares=shares, order=order
    )
    loader = DataLoader(data, batch_sampler=sampler, transform=transform)
    return Feed(loader, batch_size, len(sampler), len(data), shards, seed, shares)


def check_data(data: Any) -> None:
    """Raise for arrays that are no data set yet."""
    if isinstance(data, (tuple, list)) and data and all(isinstance(part, (np.ndarray, Tensor)) for part in data):
        raise checks.bad_type("data", data[0].shape, "and others must be a data set: ArrayDataset(inputs, targets)")


def is_loader(data: Any) -> bool:
    """Say whether `data` yields batches itself: a loader, or an iterable that cannot be indexed."""
    return isinstance(data, (DataLoader, Iterator)) or not (hasattr(data, "__getitem__") and hasattr(data, "__len__"))
