"""Arrays that the ranks of a node share: the same sums as of other arrays, wherever ranks are."""

import os
import time
import weakref

import numpy as np
import pytest

from distdl.comm import nodes, shared
from distdl.comm.nodes import Nodes

pytestmark = pytest.mark.mpi

# For each rank its node.
LAYOUTS = {
    "one node": lambda rank: 0,
    "nodes of two": lambda rank: rank // 2,
    "a node each": lambda rank: rank,
    "in turn": lambda rank: rank % 2,
    "nodes of three": lambda rank: rank // 3,
}


@pytest.fixture(params=LAYOUTS)
def part(request, comm, monkeypatch):
    """A communicator of all ranks, which take themselves for ranks on such nodes."""
    monkeypatch.setattr(nodes, "node_number", lambda: LAYOUTS[request.param](comm.rank))
    return comm.split(0, comm.rank)


def values(rank, size, dtype):
    """Numbers of several magnitudes, so that the order of a sum shows in its bits."""
    rng = np.random.default_rng(rank)
    return (rng.normal(size=size) * 10.0 ** rng.integers(-3, 4, size)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [0, 1, 17, 1000, 200_003])
@pytest.mark.parametrize(("op", "scale"), [("sum", 1.0), ("sum", 0.25), ("max", 1.0)])
def test_results_are_those_of_other_arrays(part, size, dtype, op, scale):
    """An array from zeros() is combined to the bits to which any other is, in the order of the tree of ranks."""
    array, other = part.zeros(size, dtype, in_tree_order=True), values(part.rank, size, dtype)
    assert not array.any()
    array[...] = other
    assert part.allreduce(array, op, scale, label="shared") is array
    part.allreduce(other, op, scale, label="other")
    assert array.tobytes() == other.tobytes()


@pytest.mark.parametrize("size", [0, 17, 200_003])
@pytest.mark.parametrize("shared_memory", [False, True])
def test_ranks_beside_these_get_the_same_bits(part, size, shared_memory):
    """Whoever waits without the core combines in the same order; messages of several blocks arrive whole."""
    beside = part.beside()
    mine, other = (comm.zeros(size) if shared_memory else np.zeros(size, np.float32) for comm in (beside, part))
    for turn in range(2):
        mine[...] = other[...] = values(part.rank + turn, size, np.float32)
        beside.allreduce(mine, scale=0.5, label="beside")
        part.allreduce(other, scale=0.5, label="before")
        assert mine.tobytes() == other.tobytes()


@pytest.mark.parametrize("size", [1, 900, 20_000])
def test_a_rank_that_is_late_or_early_finds_its_turn(part, size):
    """Reductions follow each other at once, and each adds up what belongs to it, whoever comes when."""
    arrays = part.zeros(size), part.zeros(size)
    rng = np.random.default_rng(part.rank)
    total = part.size * (part.size + 1) / 2
    for turn in range(200):
        array = arrays[turn % 3 == 0]
        array.fill((part.rank + 1) * turn)
        if rng.random() < 0.05:
            time.sleep(rng.random() * 5e-3)
        part.allreduce(array, label="in turn")
        assert (array == total * turn).all()


@pytest.mark.parametrize("size", [5, 200_003])
def test_all_ranks_get_the_same_bits(part, size):
    """Sums are right and alike on all ranks, in whichever order nodes ask for."""
    array = part.zeros(size)
    for turn in range(3):
        array[...] = values(part.rank + turn, size, np.float32)
        expected = sum(values(rank + turn, size, np.float64) for rank in range(part.size))
        part.allreduce(array)
        np.testing.assert_allclose(array, expected, rtol=2e-5, atol=1e-2)
        assert (part.allgather(array) == array).all()


def test_views_are_combined_as_any_array(part):
    """A part of an array from zeros() is reduced alone, and nothing else is touched."""
    array = part.zeros(100)
    array[...] = part.rank + 1
    part.allreduce(array[10:20])
    total = part.size * (part.size + 1) / 2
    assert (array[10:20] == total).all()
    assert (np.delete(array, slice(10, 20)) == part.rank + 1).all()


def test_arrays_of_one_shape_are_told_apart(part):
    """Calls with two arrays from zeros() have different signatures, so that one is never combined with the other."""
    first, second = part.zeros(64), part.zeros(64)
    calls = []
    for array in (first, second):
        part.allreduce(array, label="x")
        calls.append(part.call)
    if part._nodes.is_shared:
        assert calls[0].signature != calls[1].signature
        assert str(calls[0]) != str(calls[1])


def test_memory_goes_with_the_array(comm):
    """When an array from zeros() is gone, the communicator keeps nothing of it; a view keeps the memory alive."""
    array = comm.zeros(1000)
    known = len(comm._shared)
    view, gone = array[:10], weakref.ref(array)
    del array
    assert gone() is None
    assert len(comm._shared) == max(known - 1, 0)
    view += 1
    assert (view == 1).all()
    comm.barrier()


def test_nothing_is_left_open(comm):
    """Neither descriptors nor files in /dev/shm remain of shared memory."""
    before = len(os.listdir("/proc/self/fd")), set(os.listdir("/dev/shm"))
    array = comm.zeros(100_000)
    comm.allreduce(array)
    assert (len(os.listdir("/proc/self/fd")), set(os.listdir("/dev/shm"))) == before
    comm.barrier()


@pytest.mark.parametrize("what", ["memfd_create", "posix_fallocate", "open"])
def test_without_shared_memory_all_take_the_tree(comm, monkeypatch, what):
    """Where one rank gets no memory, or may not open another's, all reduce as if there was none."""
    part = comm.split(0, comm.rank)
    real = os.open

    def fail(*args, **options):
        if what != "open" or str(args[0]).startswith("/proc/"):
            raise OSError(12, "not here")
        return real(*args, **options)

    if comm.rank == comm.size - 1:
        monkeypatch.setattr(shared.os, what, fail)
    array = part.zeros(1000)
    monkeypatch.undo()
    array += comm.rank
    part.allreduce(array)
    assert (array == comm.size * (comm.size - 1) / 2).all()
    assert not part._shared


def test_anothers_memory_is_not_mistaken(comm, monkeypatch):
    """Where a process number means another process, as it may in a container, the token shows it."""
    monkeypatch.setattr(shared.secrets, "randbits", lambda bits: 7 + comm.rank)
    card = shared._make(4096)[0]
    assert shared._open(card, 4096) is not None
    assert shared._open(card._replace(token=card.token ^ 2), 4096) is None
    os.close(card.descriptor)


def test_nodes_are_known(part):
    """Regular nodes share memory; they keep the order of the tree if they are one, or have a power of two of ranks."""
    found = Nodes(part.handle)
    layout = part.allgather(np.array(nodes.node_number())).tolist()
    blocks = [layout.count(name) for name in dict.fromkeys(layout)]
    assert found.count == len(blocks)
    assert found.is_regular == (len(set(blocks)) == 1 and layout == sorted(layout))
    assert found.keeps_order == (found.count == 1 or (found.is_regular and blocks[0] in (1, 2, 4)))
