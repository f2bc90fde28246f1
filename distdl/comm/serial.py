"""One rank alone."""

from __future__ import annotations

import numpy as np

from .base import Communicator


class SerialCommunicator(Communicator):
    """A group of one; needs no MPI."""

    rank, size, local_rank, local_size, members = 0, 1, 0, 1, (0,)

    def describe(self) -> str:
        return "1 rank, no MPI"

    def _split(self, color: int | None, key: int, name: str) -> SerialCommunicator | None:
        return None if color is None else SerialCommunicator(name)

    def _allreduce(self, array: np.ndarray, op: str, scale: float) -> None:
        if scale != 1.0:
            array *= array.dtype.type(scale)

    def _broadcast(self, array: np.ndarray, root: int) -> None:
        pass

    def _allgather(self, array: np.ndarray, out: np.ndarray) -> None:
        out[0] = array

    def _alltoall(self, array: np.ndarray, out: np.ndarray) -> None:
        out[...] = array

    def _send(self, array: np.ndarray, dest: int, tag: int) -> None:
        raise AssertionError("a rank alone sends to itself only")

    def _recv(self, array: np.ndarray, source: int, tag: int) -> int:
        raise AssertionError("a rank alone receives from itself only")

    def _barrier(self) -> None:
        pass
