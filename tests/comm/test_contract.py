"""Signatures of collectives: equal on all ranks exactly where ranks mean the same."""

import subprocess
import sys

import numpy as np
import pytest

from distdl.comm import SerialCommunicator
from distdl.comm.base import MAX_TAG
from distdl.comm.contract import difference, ranks
from distdl.core.errors import ArgumentError


def called(comm, function):
    function(comm)
    return comm.call


def test_what_differs_changes_the_signature():
    """Operation, shape, dtype, root, label and steps taken; two lines differ for reductions only."""
    comm = SerialCommunicator()
    calls = [
        called(comm, lambda comm: comm.allreduce(np.ones(3), label="a")),
        called(comm, lambda comm: comm.allreduce(np.ones(3), label="b")),
        called(comm, lambda comm: comm.allreduce(np.ones(3), "max", label="a")),
        called(comm, lambda comm: comm.allreduce(np.ones(4), label="a")),
        called(comm, lambda comm: comm.allreduce(np.ones((3, 1)), label="a")),
        called(comm, lambda comm: comm.allreduce(np.ones(3, np.float32), label="a")),
        called(comm, lambda comm: comm.allreduce(np.ones(3))),
        called(comm, lambda comm: comm.allreduce(np.ones(3))),
        called(comm, lambda comm: comm.allgather(np.ones(3))),
        called(comm, lambda comm: comm.broadcast(np.ones(3))),
        called(comm, lambda comm: comm.barrier()),
        called(comm, lambda comm: comm.allreduce([1.0, 2.0, 3.0], label="a")),
        called(comm, lambda comm: comm.allreduce([[1.0, 2.0, 3.0]], label="a")),
        called(comm, lambda comm: comm.allreduce(1.0, label="a")),
    ]
    comm.clock = 1
    calls.append(called(comm, lambda comm: comm.barrier()))
    assert len({call.signature for call in calls}) == len(calls)
    assert calls[-1].signature == called(comm, lambda comm: comm.barrier()).signature
    assert "after 1 steps" in str(calls[-1])


def test_the_line_is_the_users():
    """Also through methods of the communicator that call others: lines of this room tell nothing apart."""
    comm = SerialCommunicator()
    first, second = [called(comm, lambda comm: comm.allgather_object("a")).signature for _ in range(2)]
    other = called(comm, lambda comm: comm.allgather_object("a")).signature
    assert first == second != other


def test_signatures_are_the_same_in_every_process():
    """Hashes of strings differ between processes; these do not."""
    code = (
        "import numpy as np; from distdl.comm import SerialCommunicator; c = SerialCommunicator(); "
        "c.allreduce(np.ones(3), label='l'); print(c.call.signature)"
    )
    found = {subprocess.check_output([sys.executable, "-c", code]) for _ in range(2)}
    assert len(found) == 1


def test_differences_are_put_into_words():
    """Ranks that agree are told together; calls that only their lines tell apart get a hint."""
    said = difference([(0, "barrier", "a.py:1"), (1, "allreduce", "a.py:2"), (2, "barrier", "a.py:1")])
    assert said.startswith("ranks 0, 2: barrier, at a.py:1; rank 1: allreduce, at a.py:2: ")
    assert "label" not in said
    assert "label=" in difference([(0, "allreduce", "a.py:1"), (1, "allreduce", "a.py:2")])
    assert ranks(list(range(20))) == "ranks 0, 1, 2, 3, 4, 5, 6, 7 and 12 more"


def test_tags_beyond_the_range_are_refused():
    """The upper ones are our own."""
    with pytest.raises(ArgumentError, match=f"tag.*<= {MAX_TAG}"):
        SerialCommunicator().send(np.ones(1), 0, MAX_TAG + 1)


@pytest.mark.mpi(min_size=2)
def test_a_mismatch_is_raised_on_all_ranks_and_the_next_collective_works(comm):
    """Where ranks meet in MPI's own collectives nothing is lost."""
    from distdl.core.errors import PeerError

    with pytest.raises(PeerError, match=r"rank 0: barrier.*ranks? 1.*allgather of int64 \(\)"):
        comm.barrier() if comm.rank == 0 else comm.allgather(1)
    assert comm.allreduce(1) == comm.size


@pytest.mark.mpi
def test_collectives_of_a_step_are_counted(comm):
    """One a bucket, and no more; nothing while gradients are accumulated."""
    import distdl
    from distdl import nn, optim, parallel

    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm, bucket_bytes=300, overlap=False)
    x = distdl.tensor(np.ones((4, 8), np.float32))
    before = comm.collectives
    for _ in range(3):
        optimizer.zero_grad()
        with optimizer.no_sync():
            model(x).sum().backward()
        model(x).sum().backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    buckets = len(optimizer.synchronizer.buckets) if comm.size > 1 else 0
    assert comm.collectives - before == 3 * buckets
    optimizer.close()
