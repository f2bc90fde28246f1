"""Who compiles, and what happens when the cache fails."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import config
from numba.core.compiler import Flags
from numba.core.errors import TypingError
from numba.core.registry import cpu_target
from numba.core.typed_passes import NativeLowering

from distdl.core.filelock import FileLock
from distdl.kernels import cache, compile, parts
from tests.jobs.launching import wait_for

ROOT = Path(__file__).parents[2]

SUM = """
import sys
from pathlib import Path
import numpy as np
from distdl.kernels import compile
from distdl.kernels.sums import sum_rows
Path(sys.argv[1]).touch()
total = np.empty(3)
sum_rows(np.ones((2, 3)), total)
print(len(compile.compiled), total.sum())
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache directory, for this process and those it starts."""
    monkeypatch.setenv("DISTDL_CACHE_DIR", str(tmp_path / "cache"))
    cache.cache_directory.cache_clear()
    compile._tell_failure.cache_clear()
    yield cache.cache_directory()
    cache.cache_directory.cache_clear()


def start(mark, code=SUM):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("NUMBA_DISABLE_JIT", None)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code, str(mark)], env=environment, text=True, **pipes)


def test_the_cache_of_other_libraries_stays_where_it_is():
    """Numba's own setting is as before after a kernel was made."""
    before = config.CACHE_DIR
    compile.jit(lambda x: x)
    assert before == config.CACHE_DIR


def test_helpers_become_no_functions_of_their_own():
    """Numba's lowering has ours in its place, which stops at LLVM code: the time of a cold start rests on it."""
    contexts = cpu_target.typing_context, cpu_target.target_context
    (pipeline,) = parts.PartCompiler(*contexts, None, (), None, Flags(), {}).define_pipelines()
    passes = [found for found, _ in pipeline.passes]
    assert parts._PartLowering in passes
    assert NativeLowering not in passes


def test_a_second_process_loads_what_the_first_compiled(place, tmp_path):
    """Machine code lands in the cache directory, and is not compiled again."""
    ends = [start(tmp_path / "mark").communicate(timeout=60) for _ in range(2)]
    assert [out for out, _ in ends] == ["1 6.0\n", "0 6.0\n"]
    assert "compiling kernels" in ends[0][1]
    assert ends[1][1] == ""
    assert list(place.rglob("*.nbc"))


def test_one_process_compiles_and_the_others_wait(place, tmp_path):
    """Of processes that need the same kernel at once, one compiles it and says so, the others load it."""
    lock = FileLock(place / cache.LOCK)
    assert lock.acquire(0)
    marks = [tmp_path / f"mark{i}" for i in range(3)]
    jobs = [start(mark) for mark in marks]
    wait_for(lambda: all(mark.exists() for mark in marks), 60)
    lock.release()
    ends = [job.communicate(timeout=60) for job in jobs]
    assert sorted(out for out, _ in ends) == ["0 6.0\n", "0 6.0\n", "1 6.0\n"]
    assert sum(error.count("compiling kernels") for _, error in ends) == 1


def test_a_compiler_that_dies_does_not_block_others(place, tmp_path):
    """The lock of a process that is killed while it compiles is free at once."""
    code = """
import sys, time
from pathlib import Path
from distdl.core.filelock import FileLock
assert FileLock(Path(sys.argv[2])).acquire(0)
Path(sys.argv[1]).touch()
time.sleep(600)
"""
    mark = tmp_path / "holds"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(mark), str(place / cache.LOCK)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    wait_for(mark.exists, 60)
    waiter = start(tmp_path / "mark")
    wait_for((tmp_path / "mark").exists, 60)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert waiter.communicate(timeout=60)[0] == "1 6.0\n"


def test_a_compiler_that_hangs_is_not_waited_for_for_ever(place, monkeypatch):
    """After its patience a process compiles by itself, and leaves the cache alone."""
    monkeypatch.setattr(compile, "PATIENCE", 0.0)
    lock = FileLock(place / cache.LOCK)
    assert lock.acquire(0)

    @compile.jit
    def add_one(x):
        return x + 1

    assert add_one(2) == 3
    lock.release()
    assert not list(place.rglob("*.nbc"))


def test_the_lock_is_given_back_after_an_error(place):
    """A function that cannot be compiled raises Numba's error, and leaves the lock free."""

    @compile.jit
    def wrong(x):
        return x + "text"

    with pytest.raises(TypingError):
        wrong(1)
    assert FileLock(place / cache.LOCK).acquire(0)


def test_nested_functions_share_one_turn(place):
    """A kernel that calls a helper compiles both under one lock, which is free afterwards."""

    @compile.jit
    def inner(x):
        return x + 1

    @compile.jit
    def outer(x):
        return inner(x) * 2

    before = len(compile.compiled)
    assert outer(np.float32(1)) == 4
    assert compile.compiled[before:] == ["outer", "inner"]
    assert FileLock(place / cache.LOCK).acquire(0)


@pytest.mark.parametrize("damage", [b"", b"damaged", pickle.dumps(3)])
def test_a_damaged_cache_is_made_anew(place, tmp_path, damage):
    """A file that a crash left empty or damaged costs a compilation and a line, and the next run is well again."""
    start(tmp_path / "mark").communicate(timeout=60)
    for path in place.rglob("sums.sum_rows*"):
        path.write_bytes(damage)
    outputs = [start(tmp_path / "mark").communicate(timeout=60) for _ in range(3)]
    assert [out.split()[1] for out, _ in outputs] == ["6.0"] * 3
    assert outputs[2] == ("0 6.0\n", "")


def test_a_cache_that_vanishes_does_not_stop_a_run(place, capfd):
    """Where code can no longer be written, kernels still compile, and one line says why it is not kept."""

    @compile.jit
    def add_one(x):
        return x + 1

    @compile.jit
    def add_two(x):
        return x + 2

    for path in (*place.rglob("*"), place):
        if path.is_file():
            path.unlink()
    for path in sorted((*place.rglob("*"), place), reverse=True):
        path.rmdir()
    place.write_text("a file where the directory was")
    assert add_one(2) + add_two(2) == 7
    assert capfd.readouterr().err.count("is not kept") == 1


def test_the_stamp_of_a_source_is_its_content(place):
    """Images and file systems that round time stamps do not make kernels stale."""
    stamp = compile.jit(lambda x: x)._cache._cache_file._source_stamp
    assert stamp == cache.source_digest(__file__)
