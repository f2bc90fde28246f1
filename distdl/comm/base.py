"""`Communicator`: what ranks can say to each other."""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..core import checks

OPERATIONS = ("sum", "max", "min")


class Communicator(ABC):
    """A group of ranks. Collective calls must be made by all of them, in the same order.

    Attributes:
        rank, size: this rank's number, and how many there are.
        local_rank, local_size: the same among the ranks on this node.
        collectives: how many collectives this rank has begun.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int

    def __init__(self) -> None:
        self.collectives = 0
        self._own_mail: dict[int, list[np.ndarray]] = {}

    # --- arrays ---

    def allreduce(self, array: Any, op: str = "sum") -> Any:
        """Combine an array over all ranks, element by element; every rank gets the same bits.

        Args:
            array: a contiguous, writable array, which is overwritten; or a number or list, which is not.
            op: "sum", "max" or "min".

        Returns:
            The array itself; for a number a number, for a list a new array.
        """
        checks.one_of("op", op, OPERATIONS)
        values, plain = _as_array(array)
        self._begin("allreduce")
        self._allreduce(values, op)
        return values.item() if plain and values.ndim == 0 else values

    def broadcast(self, array: Any, root: int = 0) -> Any:
        """Overwrite an array with the root's, and return it; a number or list gives a new value."""
        self._check_rank("root", root)
        values, plain = _as_array(array)
        self._begin("broadcast")
        self._broadcast(values, root)
        return values.item() if plain and values.ndim == 0 else values

    def allgather(self, array: Any) -> np.ndarray:
        """Return the arrays of all ranks, which must have one shape: (size, *shape)."""
        values = np.asarray(array, order="C")
        out = np.empty((self.size, *np.shape(array)), values.dtype)
        self._begin("allgather")
        self._allgather(values, out)
        return out

    def alltoall(self, array: Any) -> np.ndarray:
        """Send `array[r]` to rank r, and return what the ranks sent here, in rank order."""
        values = np.asarray(array, order="C")
        if values.ndim == 0 or len(values) != self.size:
            raise checks.bad_value(
                "array", f"shape {values.shape}", f"must have a first axis of {self.size}, one a rank"
            )
        out = np.empty_like(values)
        self._begin("alltoall")
        self._alltoall(values, out)
        return out

    def send(self, array: Any, dest: int, tag: int = 0) -> None:
        """Send an array to a rank, which must receive it with the same shape and dtype."""
        self._check_rank("dest", dest)
        values = np.asarray(array, order="C")
        checks.integer("tag", tag, 0)
        if dest == self.rank:
            # MPI may block for ever in a message to oneself.
            self._own_mail.setdefault(tag, []).append(values.copy())
        else:
            self._send(values, dest, tag)

    def recv(self, array: np.ndarray, source: int, tag: int = 0) -> np.ndarray:
        """Receive into a contiguous, writable array, and return it."""
        self._check_rank("source", source)
        values, plain = _as_array(array)
        if plain:
            raise checks.bad_type("array", array, "must be a NumPy array to receive into")
        checks.integer("tag", tag, 0)
        if source != self.rank:
            self._recv(values, source, tag)
        elif self._own_mail.get(tag):
            values[...] = self._own_mail[tag].pop(0)
        else:
            raise checks.bad_value("tag", tag, "must be one that this rank has sent to itself before")
        return values

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self._begin("barrier")
        self._barrier()

    # --- objects ---

    def broadcast_object(self, value: Any, root: int = 0) -> Any:
        """Return the root's JSON-like object (None, bool, number, str, list, dict with str keys)."""
        self._check_rank("root", root)
        data = np.frombuffer(_encode(value), np.uint8) if self.rank == root else np.zeros(0, np.uint8)
        length = int(self.broadcast(len(data), root))
        data = data.copy() if self.rank == root else np.empty(length, np.uint8)
        return json.loads(self.broadcast(data, root).tobytes())

    def allgather_object(self, value: Any) -> list[Any]:
        """Return the JSON-like objects of all ranks, in rank order."""
        data = np.frombuffer(_encode(value), np.uint8)
        lengths = self.allgather(np.array(len(data)))
        padded = np.zeros(int(lengths.max()), np.uint8)
        padded[: len(data)] = data
        rows = self.allgather(padded)
        return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]

    def gather_object(self, value: Any, root: int = 0) -> list[Any] | None:
        """Return the JSON-like objects of all ranks on the root, None elsewhere."""
        self._check_rank("root", root)
        values = self.allgather_object(value)
        return values if self.rank == root else None

    # --- order ---

    @contextlib.contextmanager
    def rank_zero_first(self) -> Iterator[None]:
        """Let rank 0 run the block before the others: to fetch or compile what all need."""
        if self.rank != 0:
            self.barrier()
        yield
        if self.rank == 0:
            self.barrier()

    def print(self, *values: Any, **options: Any) -> None:
        """Print on rank 0 only."""
        if self.rank == 0:
            print(*values, **{"flush": True, **options})

    @abstractmethod
    def split(self, color: int | None, key: int = 0) -> Communicator | None:
        """Return the communicator of the ranks with the same color, ordered by key, then rank; None for color None."""

    @abstractmethod
    def describe(self) -> str:
        """Say in a few words how many ranks there are, and over what they talk."""

    # --- what a kind of communicator provides: contiguous arrays come in ---

    @abstractmethod
    def _allreduce(self, array: np.ndarray, op: str) -> None: ...

    @abstractmethod
    def _broadcast(self, array: np.ndarray, root: int) -> None: ...

    @abstractmethod
    def _allgather(self, array: np.ndarray, out: np.ndarray) -> None: ...

    @abstractmethod
    def _alltoall(self, array: np.ndarray, out: np.ndarray) -> None: ...

    @abstractmethod
    def _send(self, array: np.ndarray, dest: int, tag: int) -> None: ...

    @abstractmethod
    def _recv(self, array: np.ndarray, source: int, tag: int) -> None: ...

    @abstractmethod
    def _barrier(self) -> None: ...

    def _begin(self, name: str) -> None:
        """Count a collective; every one passes here before it starts."""
        self.collectives += 1

    def _check_rank(self, name: str, rank: int) -> None:
        if checks.integer(name, rank, 0) >= self.size:
            raise checks.bad_value(name, rank, f"must be < {self.size}, the number of ranks")


def _as_array(value: Any) -> tuple[np.ndarray, bool]:
    """Return an array that may be overwritten, and whether it was made here."""
    if not isinstance(value, np.ndarray):
        made = np.array(value)
        if made.dtype.kind not in "biuf":
            raise checks.bad_type("array", value, "must hold numbers")
        return made, True
    if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
        raise checks.bad_type("array", value.dtype, "must hold booleans, integers, or floats of at most 64 bits")
    if not value.flags.c_contiguous or not value.flags.writeable:
        raise checks.bad_value("array", f"shape {value.shape}", "must be C-contiguous and writable: it is overwritten")
    return value, False


def _encode(value: Any) -> bytes:
    try:
        return json.dumps(value, default=_plain).encode()
    except TypeError as error:
        raise checks.bad_type("value", value, f"must be JSON-like: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not")
