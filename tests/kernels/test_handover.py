"""Kernels are called by threads that never hold the interpreter's lock."""

import sys
import threading
import weakref

import numpy as np
import pytest
from numba.core.errors import NumbaError

from distdl.kernels import handover
from distdl.kernels.compile import jit


@jit
def tell_all(whole, single, double, counts, grid, part, factor, flag, out):  # type: ignore[no-untyped-def]
    """Write something of each argument."""
    out[0], out[1], out[2] = whole, factor, flag
    out[3], out[4] = part[0], part[1]
    out[5], out[6], out[7] = single.sum(), double.sum(), counts.sum()
    flat = grid.reshape(-1)
    out[8], out[9], out[10] = flat[flat.size - 1], grid.shape[0], grid.shape[1]


@jit
def count_up(array):  # type: ignore[no-untyped-def]
    array[0] = 2 * array[0] + 1


@jit
def refuse(array):  # type: ignore[no-untyped-def]
    if array[0] > 0:
        raise ValueError("refused")


@jit
def total(array):  # type: ignore[no-untyped-def]
    return array.sum()


def serve(box):
    """Do what lies in the box, in another thread, and wait for it."""
    thread = threading.Thread(target=handover.serve, args=(box, 10))
    thread.start()
    thread.join()
    assert handover.is_empty(box)
    assert handover.is_done(box, 1, 1)


def test_all_kinds_of_arguments_arrive():
    """Numbers, flags, pairs, and arrays of any type and number of dimensions, also parts of larger ones."""
    box = handover.new_box()
    out = np.zeros(11)
    grid = np.arange(60, dtype=np.float32).reshape(6, 10)[2:5]
    arrays = np.ones(3, np.float32), np.full(4, 0.5), np.arange(5), grid
    for repeat in range(3):
        out[:] = 0
        handover.give(box, tell_all, (7, *arrays, (3, 9), 0.25 + repeat, True, out))
        assert not handover.is_empty(box)
        assert not handover.is_done(box, 1, 1)
        assert (out == 0).all()
        serve(box)
        assert out.tolist() == [7, 0.25 + repeat, 1, 3, 9, 3, 2, 10, 49, 3, 10]


def test_calls_are_made_in_their_order():
    """As many as there is room for, again and again."""
    box = handover.new_box()
    array = np.zeros(1, np.int64)
    for _ in range(3):
        array[0] = 0
        for _ in range(handover.CALLS):
            handover.give(box, count_up, (array,))
        serve(box)
        assert array[0] == 2**handover.CALLS - 1


def test_kernels_of_the_same_types_are_told_apart():
    """One function calls them, each by its own address."""
    box = handover.new_box()
    array = np.array([5], np.int64)
    handover.give(box, count_up, (array,))
    handover.give(box, refuse, (array,))
    handover.give(box, count_up, (array,))
    serve(box)
    assert array[0] == 23
    assert box[handover.FAILED] == 1


def test_each_type_has_its_own_code():
    """A kernel is compiled for the types that it is given, as when it is called."""
    box = handover.new_box()
    for dtype in (np.float32, np.float64, np.int32):
        array = np.ones(1, dtype)
        handover.give(box, count_up, (array,))
        serve(box)
        assert array[0] == 3


def test_arrays_are_held_by_nobody_afterwards():
    """Handing one over many times neither keeps it nor lets it go."""
    box = handover.new_box()
    array = np.zeros(1 << 12, np.int64)
    before = sys.getrefcount(array)
    for _ in range(50):
        handover.give(box, tell_all, (1, array, array, array, array.reshape(64, 64), (0, 1), 1.0, False, np.zeros(11)))
        serve(box)
    assert sys.getrefcount(array) == before
    gone = weakref.ref(array)
    del array
    assert gone() is None


def test_what_cannot_be_handed_over_is_refused():
    """A kernel with a result, more arguments than a box holds, and what holds arrays in itself."""
    box = handover.new_box()
    with pytest.raises(TypeError, match="returns something"):
        handover.give(box, total, (np.ones(3),))
    with pytest.raises(NumbaError, match="owns memory"):
        handover.give(box, count_up, ((np.ones(1), np.ones(1)),))
    with pytest.raises(NumbaError, match="40 arguments do not fit"):
        handover.give(box, count_up, (np.ones((1, 1, 1)),) * 40)
    assert handover.is_empty(box)
