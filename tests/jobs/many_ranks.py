"""A rank of many: trains a small model, and says what it has cost.

Arguments: steps, and how many neighbouring ranks take themselves for those of a node. Rank 0 prints a line of JSON
behind MARK: the digest, and for each rank what it counted.
"""

import json
import os
import resource
import sys
from pathlib import Path

import numpy as np

import distdl
from distdl import nn, optim, parallel
from distdl.comm import control, nodes
from distdl.comm.tree import Tree

MARK = "many-ranks "
SHARDS = 64
ROWS = 128


class Counting:
    """An mpi4py communicator that counts messages and their bytes."""

    messages = nbytes = 0

    def __init__(self, handle):
        self._handle = handle
        self.Get_rank, self.Get_size = handle.Get_rank, handle.Get_size

    def Send(self, array, *rest):
        self._count(array)
        self._handle.Send(array, *rest)

    def Recv(self, *arguments):
        self._handle.Recv(*arguments)

    def Sendrecv(self, sent, *rest):
        self._count(sent)
        self._handle.Sendrecv(sent, *rest)

    def _count(self, array):
        Counting.messages += 1
        Counting.nbytes += array.nbytes


def count_lines():
    """Count what goes over the control channel from here."""
    sent = {"messages": 0, "bytes": 0}
    real = control._Wire.send

    def send(self, message):
        sent["messages"] += 1
        sent["bytes"] += len(json.dumps(message))
        return real(self, message)

    control._Wire.send = send
    return sent


def memory():
    """Return the bytes that this process holds now, without those that it shares."""
    pages = Path("/proc/self/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * resource.getpagesize()


def main(steps, width):
    lines = count_lines()
    before = memory()
    comm = distdl.world()
    started = memory()
    nodes.node_number = lambda: comm.rank // width
    if comm.size > 1:
        comm._talker = Counting
        comm._tree = Tree(Counting(comm.handle))
    distdl.manual_seed(1)
    model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 4))
    optimizer = parallel.DistributedOptimizer(
        optim.SGD(model, lr=0.1, momentum=0.9), comm, model=model, reproducible=True, shards=SHARDS
    )
    random = np.random.default_rng(0)
    data = distdl.data.ArrayDataset(random.normal(size=(ROWS, 20)).astype(np.float32), random.integers(0, 4, ROWS))
    sampler = distdl.data.GlobalBatchSampler(ROWS, ROWS, comm.rank, comm.size, seed=1, shards=SHARDS)
    loader = distdl.data.DataLoader(data, batch_sampler=sampler)
    setup = Counting.messages
    for _ in range(steps):
        for x, y in loader:
            optimizer.zero_grad()
            for rows, labels in optimizer.each_shard(x, y):
                nn.functional.cross_entropy(model(distdl.tensor(rows)), labels).backward()
            optimizer.step()
    fast = comm.zeros(250_000)
    before_fast = Counting.messages, Counting.nbytes
    comm.allreduce(fast)
    mine = {
        "messages_at_start": setup,
        "messages_a_step": (before_fast[0] - setup) / steps,
        "messages_an_allreduce": Counting.messages - before_fast[0],
        "bytes_an_allreduce": Counting.nbytes - before_fast[1],
        "descriptors": len(os.listdir("/proc/self/fd")),
        "bytes_of_world": started - before,
        "control_messages": lines["messages"],
        "control_bytes": lines["bytes"],
    }
    digests = set(parallel.replica_digests(model, comm))
    found = comm.gather_object(mine)
    if found is not None:
        print(MARK + json.dumps({"digests": sorted(digests), "ranks": found}), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
