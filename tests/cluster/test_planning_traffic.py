"""What reductions send, counted, against the reductions themselves."""

import queue
import threading

import numpy as np
import pytest

from distdl.cluster.planning.compression import ASSUMED, NONE, Compression, parse
from distdl.cluster.planning.traffic import NOTHING, across, barriers, steps, sum_of
from distdl.comm.tree import Tree
from distdl.core.errors import ArgumentError
from distdl.parallel.compression import HOOKS


class CountingHandle:
    """Stands in for an mpi4py communicator of threads, and counts what passes."""

    def __init__(self, rank, mail):
        self.rank, self.mail = rank, mail
        self.messages = self.nbytes = 0

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return len(self.mail)

    def Send(self, array, dest, tag):
        self._count(array)
        self.mail[self.rank][dest].put(array.copy())

    def Recv(self, array, source, tag):
        self._count(array)
        array[...] = self.mail[source][self.rank].get(timeout=30)

    def Sendrecv(self, sent, dest, sendtag, received, source, recvtag):
        self._count(max(sent, received, key=len))
        self.mail[self.rank][dest].put(sent.copy())
        received[...] = self.mail[source][self.rank].get(timeout=30)

    def _count(self, array):
        self.messages += 1
        self.nbytes += array.nbytes


def counted(ranks, nbytes):
    """Run the library's own tree, and return messages and bytes of the rank that has most."""
    mail = [[queue.SimpleQueue() for _ in range(ranks)] for _ in range(ranks)]
    handles = [CountingHandle(rank, mail) for rank in range(ranks)]
    arrays = [np.full(nbytes // 4, rank, np.float32) for rank in range(ranks)]
    work = [
        threading.Thread(target=Tree(handle).allreduce, args=(array, np.add, 1.0, 0))
        for handle, array in zip(handles, arrays, strict=True)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert all((array == sum(range(ranks))).all() for array in arrays)
    return max(handle.messages for handle in handles), max(handle.nbytes for handle in handles)


@pytest.mark.parametrize("nbytes", [4, 1 << 12, 1 << 15, 1 << 16, 1 << 20, 5 << 20, 8 << 20])
@pytest.mark.parametrize("ranks", [2, 3, 4, 5, 7, 8])
def test_the_tree_sends_what_the_model_counts(ranks, nbytes):
    """Messages one after another, and bytes each way, are those of the busiest rank in comm/tree.py."""
    traffic = across(nbytes, ranks)
    messages, sent = counted(ranks, nbytes)
    assert traffic.messages == messages
    assert traffic.sent == pytest.approx(sent, rel=1e-3)


def test_known_costs():
    """By hand: halving and doubling send 2 (1 - 1/p) of an array, doubling alone all of it log2 p times."""
    assert across(1 << 20, 1) == NOTHING
    assert across(1 << 20, 2) == (2, 1 << 20, 1 << 19)
    assert across(1 << 20, 4) == (4, 1.5 * (1 << 20), 0.75 * (1 << 20))
    assert across(1 << 10, 8) == (3, 3 << 10, 3 << 10)
    assert across(1 << 20, 3) == (4, 3 << 20, 1.5 * (1 << 20))
    assert across(8 << 20, 2).messages == 8
    assert [barriers(ranks) for ranks in (1, 2, 3, 4, 5, 64)] == [0, 2, 2, 2, 2, 2]


def test_steps_go_from_near_to_far():
    """Neighbours talk first; all steps together are the whole."""
    found = steps(1 << 20, 8)
    assert [distance for distance, _ in found] == [1, 1, 2, 2, 4, 4]
    assert sum_of(found) == across(1 << 20, 8)


@pytest.mark.parametrize("ranks", range(2, 40))
def test_more_bytes_never_send_less(ranks):
    """Within an algorithm traffic grows with the array."""
    for sizes in ((4, 1 << 10, 1 << 15), (1 << 16, 1 << 20, 1 << 24)):
        found = [across(nbytes, ranks) for nbytes in sizes]
        assert [traffic.sent for traffic in found] == sorted(traffic.sent for traffic in found)
        assert [traffic.messages for traffic in found] == sorted(traffic.messages for traffic in found)


def test_compressed_sums_shrink_and_gathered_values_grow_with_nodes():
    """Half the bytes are half the traffic of sums; what is gathered comes from all other nodes."""
    assert NONE.traffic(1 << 20, 4) == across(1 << 20, 4)
    powersgd = ASSUMED["powersgd"]
    assert powersgd.traffic(1 << 21, 4) == across(powersgd.factor * (1 << 21), 4)
    # A piece to each of three others, then all pieces to all in two doublings.
    assert ASSUMED["bf16"].traffic(1 << 21, 4) == (5, 1.5 * (1 << 20), 0.75 * (1 << 20))
    topk = ASSUMED["topk"]
    assert topk.traffic(1000.0, 1) == NOTHING
    assert topk.traffic(1000.0, 2).sent == pytest.approx(topk.factor * 1000)
    assert topk.traffic(1000.0, 65).sent == pytest.approx(64 * topk.factor * 1000)
    assert topk.traffic(1000.0, 65).messages == 7


def test_the_hooks_that_there_are_can_be_planned():
    """By the names that `compression=` takes."""
    assert set(ASSUMED) == {"none", *HOOKS}


def test_compressions_are_read():
    """A name has assumed numbers; given ones go before them."""
    assert parse("bf16") == ASSUMED["bf16"]
    assert parse("topk=0.1:1e-9") == Compression("topk", 0.1, 1e-9, "gathered")
    assert parse("mine=0.25:0") == Compression("mine", 0.25, 0.0, "tree")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zip", "`compression` \\(='zip'\\) must be one of"),
        ("bf16=half", "`compression` \\(='bf16=half'\\) must be NAME"),
        ("bf16=0.5", "`compression` \\(='bf16=0.5'\\) must be NAME"),
        ("bf16=0:0", "`compression factor` \\(=0.0\\) must be > 0"),
        ("bf16=2:0", "`compression factor` \\(=2.0\\) must be <= 1"),
        ("bf16=0.5:-1", "`compression cost` \\(=-1.0\\) must be >= 0"),
        ("bf16=nan:0", "`compression factor` \\(=nan\\) must be finite"),
    ],
)
def test_bad_compressions_are_named(text, message):
    """The message has the argument, the value and the rule."""
    with pytest.raises(ArgumentError, match=message):
        parse(text)
