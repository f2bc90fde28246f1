"""Digests: two replicas hold the same bits if, and for all practical purposes only if, theirs are equal."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..comm import Communicator


def digest(model: Any) -> str:
    """Return 16 hexadecimal digits of BLAKE2b over names, shapes, dtypes and bits of a state.

    Args:
        model: a `Module`, or a mapping of names to arrays.
    """
    state: Mapping[str, Any] = model if isinstance(model, Mapping) else model.state_dict()
    hashed = hashlib.blake2b(digest_size=8)
    for name in sorted(state):
        array = np.asarray(state[name], order="C")
        hashed.update(f"{name}{array.shape}{array.dtype.str}".encode())
        hashed.update(array.tobytes())
    return hashed.hexdigest()


def replica_digests(model: Any, comm: "Communicator") -> list[str]:
    """Return the digest of every rank's replica, in rank order, on all ranks."""
    return [str(value) for value in comm.allgather_object(digest(model))]
