"""`Lockstep`: finds replicas that have drifted apart, and says where.

Every so many reductions each rank hashes its parameters, buffers, optimizer state and seed. The hash travels in the
gradients' own reduction, as small numbers p and their squares: replicas are equal if and only if n sum p^2 = (sum p)^2
for each of them. All ranks see the same sums, so all find the same, and look for the place together.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..core import checks, random
from ..core.errors import PeerError
from ..kernels.fingerprint import fingerprint

if TYPE_CHECKING:
    from ..comm import Communicator

OnDrift = Literal["stop", "broadcast"]
Arrays = Iterable[tuple[str, np.ndarray]]

_BITS = 6
"""Of each number: sums of squares over 4,096 ranks are exact in float32."""

_NUMBERS = 8

SLOTS = 2 * _NUMBERS
"""Numbers of a hash and their squares, in every bucket."""


class Lockstep:
    """Compares replicas every so many reductions.

    Args:
        comm: the ranks.
        arrays: gives (name, array) of all that must be equal, in one order on all ranks.
        every: how many reductions apart; 0: never.
        on_drift: "stop" raises on all ranks; "broadcast" warns, and gives all ranks what rank 0 has.

    Attributes:
        step: how many reductions there have been.
    """

    def __init__(self, comm: "Communicator", arrays: Callable[[], Arrays], every: int, on_drift: OnDrift = "stop"):
        self.comm = comm
        self.every = checks.integer("check_every", every, 0)
        self.on_drift = checks.one_of("on_drift", on_drift, ("stop", "broadcast"))
        self.step = 0
        self._arrays = arrays
        self._is_due = False

    def numbers(self) -> np.ndarray:
        """Return what this rank adds to the next reduction, float64 of shape (SLOTS,): zeros if nothing is due."""
        self.step += 1
        self._is_due = bool(self.every) and self.comm.size > 1 and self.step % self.every == 0
        if not self._is_due:
            return np.zeros(SLOTS)
        result = fingerprint(np.array([random.get_seed()]))
        for _, array in self._arrays():
            result = fingerprint(array, result)
        numbers = np.array([result >> _BITS * i & (1 << _BITS) - 1 for i in range(_NUMBERS)], np.float64)
        return np.concatenate([numbers, numbers**2])

    def judge(self, sums: np.ndarray) -> None:
        """Look at the sums of all ranks' numbers.

        Raises:
            PeerError: replicas differ.
        """
        if not self._is_due:
            return
        numbers, squares = np.split(np.asarray(sums, np.float64), 2)
        if (self.comm.size * squares == numbers**2).all():
            return
        message = self._find()
        if self.on_drift == "stop":
            raise PeerError(message)
        for _, array in self._arrays():
            self.comm.broadcast(array)
        self.comm.print(f"distdl: {message}; all ranks go on with what rank 0 has")

    def _find(self) -> str:
        """Name the first array that differs, the ranks where it does, and its first different values."""
        arrays = [("seed", np.array(random.get_seed())), *self._arrays()]
        prints = self.comm.allgather_object([[name, f"{fingerprint(array):x}"] for name, array in arrays])
        before = f"replicas differ before step {self.step}"
        rows = list(itertools.zip_longest(*prints))
        apart = [i for i, row in enumerate(rows) if any(entry != row[0] for entry in row)]
        if not apart:
            return f"{before}, and are equal by now"
        row = rows[apart[0]]
        ranks = [rank for rank, entry in enumerate(row) if entry != row[0]]
        names = [entry and entry[0] for entry in row]
        if len(set(names)) > 1:
            return f"{before}: rank 0 has {names[0]!r} where rank {ranks[0]} has {names[ranks[0]]!r}"
        where = self._first_difference(arrays[apart[0]][1], ranks[0])
        others = f" ({len(apart) - 1} more of {len(rows)} arrays differ)" if len(apart) > 1 else ""
        return f"{before}: {names[0]!r} on {_ranks(ranks)} is not that on rank 0{where}{others}"

    def _first_difference(self, array: np.ndarray, rank: int) -> str:
        """Say which element of an array differs first between a rank and rank 0, and how."""
        first = self.comm.broadcast(np.array(array, order="C"))
        mine = np.ascontiguousarray(array)
        # Bits, since NaN is no NaN's equal.
        bits = [values.reshape(-1).view(np.uint8).reshape(array.size, -1) for values in (first, mine)]
        places = np.flatnonzero((bits[0] != bits[1]).any(axis=1))
        place = int(places[0]) if len(places) else -1
        found = [place, repr(array.reshape(-1)[place].item()) if place >= 0 else ""]
        place, value = self.comm.allgather_object(found)[rank]
        if place < 0:
            return ""
        index = tuple(int(i) for i in np.unravel_index(place, array.shape))
        return f": element {index} is {first.reshape(-1)[place].item()!r} on rank 0, {value} on rank {rank}"


def _ranks(ranks: list[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"
