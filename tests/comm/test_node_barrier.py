"""The barrier of a node, and sums of small arrays, by threads of one process that stand for ranks."""

import threading

import numpy as np
import pytest

from distdl.comm import node_barrier
from distdl.comm.node_barrier import EAGER, PATIENT, NodeBarrier, SmallRoom, barrier_bytes
from distdl.comm.node_tree import _spare, _steps
from distdl.core.errors import DistdlError


class Interrupted(Exception):
    """Stands for what a signal's handler raises."""


def together(*tasks):
    """Run tasks at the same time, and return what they return."""
    results = [None] * len(tasks)

    def run(i):
        results[i] = tasks[i]()

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results


def barriers(width, waiting=EAGER):
    memory = np.zeros(barrier_bytes(width), np.uint8)
    return [NodeBarrier(memory, rank, waiting) for rank in range(width)]


@pytest.mark.parametrize("waiting", [EAGER, PATIENT], ids=["eager", "patient"])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_nobody_leaves_before_all_have_come(width, waiting):
    """What was written before a barrier is seen behind it, whoever is early, three hundred times in turn."""
    counts = np.zeros(width, np.int64)

    def rank(barrier, mine):
        for turn in range(1, 301):
            counts[mine] = turn
            barrier.wait(7)
            if counts.min() != turn:
                return False
            barrier.wait(8)
        return True

    tasks = [lambda b=b, i=i: rank(b, i) for i, b in enumerate(barriers(width, waiting))]
    assert together(*tasks) == [True] * width


def test_numbers_start_anew_after_the_last(monkeypatch):
    """Counting goes on from 0, where tags have their bits for themselves."""
    monkeypatch.setattr(node_barrier, "_NUMBERS", 3)
    first, second = barriers(2)
    largest = (1 << 31) - 1
    together(*(lambda b=b: [b.wait(largest) for _ in range(10)] for b in (first, second)))
    assert first._flags.max() >> 32 <= 3
    assert first._flags.max() & 0xFFFFFFFF == largest


def test_who_comes_with_another_tag_waits():
    """A rank waits on while another has another tag, and both can be told to stop, by what a signal raises."""
    turns = []

    def rest():
        turns.append(1)
        if len(turns) > 20:
            raise Interrupted

    first, second = barriers(2, PATIENT._replace(rest=rest))
    for barrier, tag in ((first, 1), (second, 2)):
        with pytest.raises(Interrupted):
            barrier.wait(tag)
        with pytest.raises(DistdlError, match="interrupted"):
            barrier.wait(tag)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [2, 3, 4, 5])
def test_small_arrays_are_added_up_in_the_order_of_the_tree(width, dtype):
    """All get the sum, times a factor, to the same bits: neighbours first; one barrier serves, sum after sum."""
    size, steps = 33, _steps(width)
    rng = np.random.default_rng(width)
    given = (rng.normal(size=(20, width, size)) * 10.0 ** rng.integers(-4, 4, (20, width, size))).astype(dtype)
    shared = np.zeros((2, width, size), dtype)
    room = [SmallRoom(shared, np.empty((_spare(steps, width), size), dtype), np.array(steps)) for _ in range(width)]

    def rank(barrier, mine):
        found = given[:, mine].copy()
        for array in found:
            barrier.add(array, room[mine], 0.5, 3)
        return found

    results = together(*(lambda b=b, i=i: rank(b, i) for i, b in enumerate(barriers(width))))
    operands = [*given.swapaxes(0, 1), *[None] * _spare(steps, width)]
    for left, right, out in steps:
        operands[out] = operands[left] + operands[right]
    expected = operands[steps[-1].out] * np.asarray(0.5, dtype)
    for found in results:
        assert found.tobytes() == expected.tobytes()
    np.testing.assert_allclose(results[0], given.astype(np.float64).sum(axis=1) / 2, rtol=1e-4, atol=1e-2)
