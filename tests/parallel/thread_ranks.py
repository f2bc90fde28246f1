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
        self.parts = []

    def abort(self):
        """Wake all that wait here, or at the table of a part."""
        self.barrier.abort()
        for part in self.parts:
            part.abort()

    def exchange(self, rank, value):
        self.places[rank] = value
        self.barrier.wait()
        everything = list(self.places)
        self.barrier.wait()
        return everything


class ThreadCommunicator(Communicator):
    """One rank of several threads. Its allreduce adds neighbours first, as MPI's ranks do.

    Args:
        table: where its ranks meet.
        rank: this one.
        members: its ranks' numbers in the world.
        node_of: gives the node of a rank of the world.
    """

    def __init__(self, table, rank, members, node_of):
        super().__init__("threads")
        self._table, self.rank, self.size = table, rank, len(members)
        self._node_of = node_of
        self.local_rank, self.local_size, self.members = rank, len(members), tuple(members)

    def describe(self):
        return f"{self.size} threads"

    def _split(self, color, key, name):
        """Ranks of one color meet at another table, which the first of them brings."""
        asked = self._table.exchange(self.rank, (color, key))
        ranks = [rank for _, rank in sorted((key, rank) for rank, (other, key) in enumerate(asked) if other == color)]
        table = _Table(len(ranks)) if color is not None and ranks[0] == self.rank else None
        if table is not None:
            self._table.parts.append(table)
        table = self._table.exchange(self.rank, table)[ranks[0]]
        if color is None:
            return None
        members = [self.members[rank] for rank in ranks]
        return ThreadCommunicator(table, ranks.index(self.rank), members, self._node_of)

    def _node_number(self):
        return self._node_of(self.members[self.rank])

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


def on_ranks(size, function, node_of=lambda rank: 0):
    """Call `function(comm)` on so many ranks at once, and return what they return; the first error is raised.

    `node_of(rank)` says on which node a rank takes itself to be.
    """
    table = _Table(size)
    results, errors = [None] * size, []

    def run(rank):
        try:
            results[rank] = function(ThreadCommunicator(table, rank, range(size), node_of))
        except BaseException as error:
            errors.append(error)
            table.abort()

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
