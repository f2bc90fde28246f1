"""JSON-like objects between ranks, as text in arrays."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from .values import encode

if TYPE_CHECKING:
    from .base import Communicator

_SPACE = ord(" ")


def broadcast(comm: Communicator, value: Any, root: int) -> Any:
    """Return the root's object."""
    data = np.frombuffer(encode(value), np.uint8) if comm.rank == root else np.zeros(0, np.uint8)
    length = int(comm.broadcast(len(data), root))
    data = data.copy() if comm.rank == root else np.empty(length, np.uint8)
    return json.loads(comm.broadcast(data, root).tobytes())


def allgather(comm: Communicator, value: Any) -> list[Any]:
    """Return the objects of all ranks."""
    return _read(comm.allgather(_padded(comm, value)))


def gather(comm: Communicator, value: Any, root: int) -> list[Any] | None:
    """Return the objects of all ranks on the root."""
    rows = comm.gather(_padded(comm, value), root)
    return None if rows is None else _read(rows)


def all_equal(comm: Communicator, value: Any) -> bool:
    """Say whether all ranks gave the same object."""
    number = int.from_bytes(hashlib.blake2b(encode(value), digest_size=8).digest(), "little") >> 1
    most, least = comm.allreduce(np.array([number, -number]), "max", label="whether all are equal").tolist()
    return bool(most == -least)


def _padded(comm: Communicator, value: Any) -> np.ndarray:
    """Return an object as text that is equally long on all ranks: spaces behind it mean nothing."""
    data = np.frombuffer(encode(value), np.uint8)
    text = np.full(int(comm.allreduce(len(data), "max", label="length of an object")), _SPACE, np.uint8)
    text[: len(data)] = data
    return text


def _read(rows: np.ndarray) -> list[Any]:
    return [json.loads(row.tobytes()) for row in rows]
