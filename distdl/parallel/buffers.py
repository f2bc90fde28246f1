"""Buffers, such as the running statistics of batch norm, which every rank updates from its own rows."""

from typing import TYPE_CHECKING

import numpy as np

from ..nn import Module

if TYPE_CHECKING:
    from ..comm import Communicator


def synchronize_buffers(model: Module, comm: "Communicator") -> None:
    """Give every rank the mean of the ranks' floating buffers, and rank 0's others: the same bits everywhere.

    Two collectives at most, none on a single rank or without buffers.
    """
    if comm.size == 1:
        return
    buffers = list(model.buffers())
    floating = [buffer for buffer in buffers if buffer.dtype.kind == "f"]
    if floating:
        total = comm.allreduce(np.concatenate([buffer.ravel().astype(np.float64) for buffer in floating]))
        ends = np.cumsum([buffer.size for buffer in floating])[:-1]
        for buffer, part in zip(floating, np.split(total / comm.size, ends), strict=True):
            buffer[...] = part.reshape(buffer.shape)
    for buffer in buffers:
        if buffer.dtype.kind != "f":
            comm.broadcast(buffer)
