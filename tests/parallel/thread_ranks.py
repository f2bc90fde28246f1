"""Ranks that are threads of one process: slow, but any number of them, without MPI."""

import threading

import numpy as np

from distdl.comm.base import Communicator

one_at_a_time = threading.Lock()
"""Held while a rank draws initial weights: threads share the stream that they come from."""

_COMBINE = {"sum": np.add, "max": np.maximum, "min": np.minimum}


class _Table:
    """Where the threads meet: each lays something down, and takes what all have laid down."""

    def __init__(self, size):
        self.barrier = threading.Barrier(size, timeout=60)
        self.places = [None] * size

    def exchange(self, rank, value):
        self.places[rank] = value
        self.barrier.wait()
        everything = list(self.places)
        self.barrier.wait()
        return everything


class ThreadCommunicator(Communicator):
    """One rank of several threads. Its allreduce adds neighbours first, as MPI's ranks do."""

    def __init__(self, table, rank, size):
        super().__init__("threads")
        self._table, self.rank, self.size = table, rank, size
        self.local_rank, self.local_size, self.members = rank, size, tuple(range(size))

    def describe(self):
        return f"{self.size} threads"

    def _split(self, color, key, name):
        """All ranks stay together, and meet at another table."""
        tables = self._table.exchange(self.rank, _Table(self.size) if self.rank == 0 else None)
        return ThreadCommunicator(tables[0], self.rank, self.size)

    def _allreduce(self, array, op, scale):
        parts = self._table.exchange(self.rank, array.copy())
        while len(parts) > 1:
            odd = parts[len(parts) // 2 * 2 :]
            parts = [_COMBINE[op](a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)] + odd
        array[...] = parts[0] * array.dtype.type(scale) if scale != 1.0 else parts[0]

    def _broadcast(self, array, root):
        array[...] = self._table.exchange(self.rank, array.copy())[root]

    def _allgather(self, array, out):
        out[...] = np.stack(self._table.exchange(self.rank, array.copy()))

    def _alltoall(self, array, out):
        out[...] = np.stack([sent[self.rank] for sent in self._table.exchange(self.rank, array.copy())])

    def _send(self, array, dest, tag):
        raise NotImplementedError

    def _recv(self, array, source, tag):
        raise NotImplementedError

    def _barrier(self):
        self._table.exchange(self.rank, None)


def on_ranks(size, function):
    """Call `function(comm)` on so many ranks at once, and return what they return; the first error is raised."""
    table = _Table(size)
    results, errors = [None] * size, []

    def run(rank):
        try:
            results[rank] = function(ThreadCommunicator(table, rank, size))
        except BaseException as error:
            errors.append(error)
            table.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    if errors:
        raise errors[0]
    return results
