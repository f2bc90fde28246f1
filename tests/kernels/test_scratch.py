"""Working memory that is kept from call to call."""

import threading

import numpy as np

from distdl.kernels.scratch import scratch


def test_a_name_has_one_memory():
    """Whatever the shape, arrays of a name start at the same address, a multiple of 64 bytes."""
    large = scratch("test one memory", (40, 16), np.float32)
    small = scratch("test one memory", (3, 5), np.float32)
    assert large.ctypes.data == small.ctypes.data
    assert large.ctypes.data % 64 == 0
    assert (large.shape, small.shape) == ((40, 16), (3, 5))
    assert scratch("test one memory", (40, 16), np.float32) is large


def test_a_name_that_grows_leaves_its_smaller_memory():
    """An array of before is not handed out again: it would keep the memory that was left."""
    before = scratch("test growing", (8,), np.float32)
    large = scratch("test growing", (1 << 12,), np.float32)
    again = scratch("test growing", (8,), np.float32)
    assert again is not before
    assert again.ctypes.data == large.ctypes.data


def test_threads_have_their_own():
    """Two threads that ask for one name do not write to the same memory."""
    mine = scratch("test threads", (8,), np.float32)
    others = []
    thread = threading.Thread(target=lambda: others.append(scratch("test threads", (8,), np.float32)))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, others[0])
