"""The pool hands out memory that nobody looks at, and takes back what nobody looks at any more."""

import gc
import subprocess
import sys
import threading

import numpy as np
import pytest

from distdl.core import memory

SHAPE = (100, 321)


@pytest.fixture(autouse=True)
def _empty_pool():
    gc.collect()
    memory.release()


def address(array: np.ndarray) -> int:
    return array.ctypes.data


def test_arrays_are_plain_and_aligned():
    """What is handed out is an ndarray at a multiple of 64 bytes: contiguous, writable, of the dtype asked for."""
    for dtype in ("float32", "float64", "int32", "uint8"):
        for shape in (SHAPE, (1 << 14,), (3, 5, 7, 1001)):
            array = memory.empty(shape, dtype)
            assert type(array) is np.ndarray
            assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
            assert address(array) % 64 == 0
            assert array.flags.carray


def test_memory_is_used_again():
    """The next array of the same size gets the memory of one that has gone, and nothing is allocated."""
    first = memory.empty(SHAPE, np.float32)
    place = address(first)
    before = memory.statistics().allocations
    del first
    assert address(memory.empty(SHAPE, np.float32)) == place
    for _ in range(10):
        memory.empty(SHAPE, np.float32)
    assert memory.statistics().allocations == before


@pytest.mark.parametrize(
    "look",
    [
        lambda a: a[10:],
        lambda a: a[10:][::2],
        lambda a: a.reshape(-1),
        lambda a: a.T,
        lambda a: a.view(np.int32),
        lambda a: a.view().reshape(-1)[5:][::3],
        lambda a: memoryview(a),
        lambda a: np.asarray(memoryview(a)),
        lambda a: np.broadcast_to(a[0], (7, SHAPE[1])),
        lambda a: iter([a]),
        lambda a: a.flat,
        lambda a: np.lib.stride_tricks.sliding_window_view(a, 3, axis=1),
    ],
)
def test_nothing_is_handed_out_while_someone_looks_at_it(look):
    """Views of any kind, and views of views, keep the memory."""
    array = memory.empty(SHAPE, np.float32)
    place = address(array)
    view = look(array)
    del array
    others = [memory.empty(SHAPE, np.float32) for _ in range(3)]
    assert place not in [address(other) for other in others]
    del view
    gc.collect()
    assert address(memory.empty(SHAPE, np.float32)) == place


def test_small_arrays_are_numpys_own():
    """What is small owns its memory, and views are told from what is not one."""
    small, large = memory.empty((3,), np.float32), memory.empty(SHAPE, np.float32)
    assert small.base is None
    assert not memory.is_view(small)
    assert not memory.is_view(large)
    assert memory.is_view(large[1:])
    assert memory.is_view(small[1:])


def test_sizes_waste_at_most_an_eighth():
    """What is held for an array is at most an eighth more than it asks for."""
    for size in range(1 << 14, 1 << 17, 997):
        memory.release()
        before = memory.statistics().held_bytes
        array = memory.empty((size,), np.uint8)
        assert size <= memory.statistics().held_bytes - before <= size * 9 / 8
        del array


def test_release_gives_idle_memory_back():
    """Idle memory is dropped, memory in use is not."""
    kept, gone = memory.empty(SHAPE, np.float32), memory.empty(SHAPE, np.float64)
    kept[...] = 1
    del gone
    held = memory.statistics()
    assert held.idle_bytes > 0
    memory.release()
    assert memory.statistics().idle_bytes == 0
    assert memory.statistics().held_bytes == held.held_bytes - held.idle_bytes
    assert (kept == 1).all()


def test_threads_never_share_memory():
    """Arrays that threads take and drop at the same time never overlap."""
    failures = []

    def work(number):
        for _ in range(300):
            mine = [memory.empty((5000 + 100 * i,), np.float32) for i in range(3)]
            for array in mine:
                array[...] = number
            failures.extend(number for array in mine if (array != number).any())

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


def test_the_interpreter_ends_in_silence():
    """Arrays that live until the end, in cycles too, make no noise."""
    code = (
        "from distdl.core import memory\nimport numpy as np\n"
        "kept = [memory.empty((100, 100), np.float32) for _ in range(5)]\nkept.append(kept)\n"
        "class Holder: pass\n"
        "holder = Holder(); holder.me = holder; holder.array = memory.empty((100, 100), np.float64)\n"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
