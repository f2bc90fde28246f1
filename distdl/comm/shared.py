"""Memory that the ranks of a node share: every rank's own array, which the others read and write too.

Each rank's array lies in an anonymous file (memfd), which the others open through /proc: nothing is left behind
however a process ends, the size of /dev/shm does not matter, and pages lie where the rank that owns them runs.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import secrets
import weakref
from typing import Any, NamedTuple

import numpy as np

_PAGE = mmap.PAGESIZE


class _Card(NamedTuple):
    """Where a rank's memory is to be found; `descriptor` is -1 where there is none."""

    process: int
    descriptor: int
    token: int


def share(node: Any, nbytes: int) -> list[np.ndarray] | None:
    """Give every rank of a node so many bytes of zeros, and return those of all, in rank order.

    Args:
        node: an mpi4py communicator of ranks on one node.
        nbytes: how many bytes each rank gets, the same on all.

    Returns:
        For each rank an array of bytes that begins on a page; None, on all ranks alike, where the system has no such
        memory, has not enough of it, or does not let these processes open each other's.
    """
    size = -(-max(nbytes, 1) // _PAGE) * _PAGE
    card, mine = _make(size)
    table = np.empty((node.Get_size(), len(card)), np.int64)
    node.Allgather(np.array(card, np.int64), table)
    cards = [_Card(*map(int, row)) for row in table]
    arrays = [
        mine if rank == node.Get_rank() else _open(other, size) for rank, other in enumerate(cards)
    ]  # fmt: skip
    complete = np.array([all(array is not None for array in arrays)], np.int8)
    found = np.empty(node.Get_size(), np.int8)
    # Behind this all have opened: tokens and descriptors have served.
    node.Allgather(complete, found)
    if card.descriptor >= 0:
        os.close(card.descriptor)
    if not found.all():
        return None
    if mine is not None:
        mine[:8] = 0
    node.Barrier()
    return [array[:nbytes] for array in arrays if array is not None]


def _make(size: int) -> tuple[_Card, np.ndarray | None]:
    descriptor = -1
    try:
        descriptor = os.memfd_create("distdl", os.MFD_CLOEXEC)
        # Taken now: where memory is short, a later first touch would kill the process.
        os.posix_fallocate(descriptor, 0, size)
        array = _map(descriptor, size)
    except (AttributeError, OSError):
        if descriptor >= 0:
            os.close(descriptor)
        return _Card(os.getpid(), -1, 0), None
    token = secrets.randbits(62) | 1
    array[:8].view(np.int64)[0] = token
    return _Card(os.getpid(), descriptor, token), array


def _open(card: _Card, size: int) -> np.ndarray | None:
    """Map another rank's memory; None if it cannot be opened, or is not what the card says."""
    if card.descriptor < 0:
        return None
    try:
        descriptor = os.open(f"/proc/{card.process}/fd/{card.descriptor}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        array = _map(descriptor, size)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    # Process numbers mean something else in another container.
    return array if int(array[:8].view(np.int64)[0]) == card.token else None


def _map(descriptor: int, size: int) -> np.ndarray:
    """Map a file into memory that is given back with the last array that looks at it.

    Python's mmap would keep a descriptor for each, which many ranks on a node have not (its `trackfd` is of 3.13).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    address = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, descriptor, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "cannot map shared memory")
    memory = (ctypes.c_ubyte * size).from_address(address)
    # At the end of the process the system does it, whatever still looks there.
    weakref.finalize(memory, libc.munmap, address, size).atexit = False
    return np.ctypeslib.as_array(memory)
