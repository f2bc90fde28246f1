"""The contract of collectives: all ranks call the same one, with like arrays, at the same point of the program.

Each collective has a signature: operation, shape, dtype, how many steps the ranks have taken (`clock`), and what is
meant: the `label` that the caller gives, else the line that calls. Where ranks meet in MPI's own collectives they
compare signatures first; messages of `tree.py` and barriers of `node_barrier.py` carry them as tags. So arrays that do
not belong together are never combined: either all ranks raise, or those concerned wait for each other, and `stalls.py`
finds them.

Broadcasts, barriers and splits may be called from different lines: a root often has a branch of its own.
"""

from __future__ import annotations

import os
import sys
import zlib
from types import CodeType, FrameType
from typing import NamedTuple

import numpy as np

from ..core.places import is_within, place_of

_HERE = os.path.dirname(__file__) + os.sep
_CALLED_ALIKE = ("allreduce", "allgather", "alltoall")

_sites: dict[tuple[int, int], tuple[CodeType, int]] = {}
"""Of each line that has called: its code object (kept, so that its id is not given to another) and hash."""

_names: dict[tuple[str, str], int] = {}
"""Hashes of kind and operation."""


class Call(NamedTuple):
    """A collective that a rank has begun.

    Attributes:
        number: how many collectives of the communicator there were, with this one.
        kind: "allreduce", "barrier" ...
        op: how an allreduce combines, else "".
        dtype, shape: of the array; None where plain numbers are given, and for both where there is nothing.
        root: of a broadcast; of an allreduce which of the arrays that ranks share; else -1.
        clock: steps taken before.
        label: what is meant, "" if the caller has not said.
        signature: what must be the same on all ranks.
    """

    number: int
    kind: str
    op: str
    dtype: np.dtype | None
    shape: tuple[int, ...] | None
    root: int
    clock: int
    label: str
    signature: int

    def __str__(self) -> str:
        of = "" if self.shape is None else f" of {self.dtype or 'numbers'} {self.shape}"
        by = f" ({self.op})" if self.op not in ("", "sum") else ""
        which = "of array" if self.kind == "allreduce" else "from rank"
        root = f" {which} {self.root}" if self.root >= 0 else ""
        label = f", {self.label}" if self.label else ""
        after = f", after {self.clock} steps" if self.clock else ""
        return f"{self.kind}{by}{of}{root}{label}{after}"


def make_call(
    number: int,
    kind: str,
    op: str,
    dtype: np.dtype | None,
    shape: tuple[int, ...] | None,
    root: int,
    clock: int,
    label: str,
) -> Call:
    """Return the call of a collective, made by the innermost frame outside of this room; for `Communicator._begin`."""
    if label:
        meant = zlib.crc32(label.encode())
    else:
        meant = _hash_caller(sys._getframe(3)) if kind in _CALLED_ALIKE else 0
    # Hashes of numbers are the same in every process; those of strings are not.
    names = _names.get((kind, op))
    if names is None:
        names = _names[kind, op] = zlib.crc32(f"{kind} {op}".encode())
    type_code, width = (0, 0) if dtype is None else (ord(dtype.kind), dtype.itemsize)
    signature = hash((names, root, clock, meant, type_code, width, shape or ()))
    # What Call(...) does, in a third of the time.
    return tuple.__new__(Call, (number, kind, op, dtype, shape, root, clock, label, signature))


def _hash_caller(frame: FrameType | None) -> int:
    while frame is not None:
        key = id(frame.f_code), frame.f_lasti
        known = _sites.get(key)
        if known is None and not is_within(frame, _HERE):
            place = place_of(frame)
            known = _sites[key] = frame.f_code, zlib.crc32(f"{place.file}:{place.line}".encode())
        if known is not None:
            return known[1]
        frame = frame.f_back
    return 0


def difference(calls: list[tuple[int, str, str]]) -> str:
    """Say which ranks call differently.

    Args:
        calls: for each rank its number, what it calls, and where.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for rank, what, where in calls:
        groups.setdefault((what, where), []).append(rank)
    said = [f"{ranks(members)}: {what}, at {where}" for (what, where), members in groups.items()]
    rule = "all ranks must call the same collectives, with like arrays, in the same order"
    if len(groups) > 1 and len({what for what, _ in groups}) == 1 and calls[0][1].startswith("allreduce"):
        # Told apart by the lines only.
        rule += "; if these calls are meant to meet, give them one label="
    return "; ".join(said) + f": {rule}"


def ranks(numbers: list[int]) -> str:
    """Put ranks into words: "rank 3", "ranks 0, 2"; of many the first."""
    if len(numbers) == 1:
        return f"rank {numbers[0]}"
    return f"ranks {', '.join(map(str, numbers[:8]))}" + f" and {len(numbers) - 8} more" * (len(numbers) > 8)
