"""Messages beside computation: whoever waits for one leaves the core to others."""

import time
from typing import Any

import numpy as np

_LOOKS = 20
"""So often a rank looks for what is about to come, before it sleeps: short messages are not held up."""

PAUSE = 5e-5
"""Seconds between two looks. Buffers of the system keep the wire busy for longer."""


class Patient:
    """An mpi4py communicator, for a thread beside one that computes.

    MPI's own ways to wait look all the time, which takes a core from the computation; this one sleeps in between.
    It has those calls that reductions need, with mpi4py's arguments.

    Args:
        handle: an mpi4py communicator.
        mpi: the module `mpi4py.MPI`.
    """

    def __init__(self, handle: Any, mpi: Any):
        self._handle = handle
        self._test = mpi.Request.Testall
        self.Get_rank, self.Get_size = handle.Get_rank, handle.Get_size

    def Send(self, array: np.ndarray, dest: int, tag: int) -> None:
        self._wait([self._handle.Isend(array, dest, tag)])

    def Recv(self, array: np.ndarray, source: int, tag: int) -> None:
        self._wait([self._handle.Irecv(array, source, tag)])

    def Sendrecv(
        self, sent: np.ndarray, dest: int, sendtag: int, received: np.ndarray, source: int, recvtag: int
    ) -> None:
        receiving = self._handle.Irecv(received, source, recvtag)
        self._wait([receiving, self._handle.Isend(sent, dest, sendtag)])

    def _wait(self, requests: list[Any]) -> None:
        looks = 0
        while not self._test(requests):
            looks += 1
            if looks > _LOOKS:
                time.sleep(PAUSE)
