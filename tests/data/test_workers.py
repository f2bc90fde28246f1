"""Worker processes of a DataLoader."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from distdl.core import random
from distdl.core.errors import WorkerError
from distdl.data import ArrayDataset, DataLoader, DistributedSampler, RandomCrop
from distdl.data import workers as module
from distdl.data.fetch import Fetcher

X = np.random.default_rng(0).random((23, 4, 4, 1), dtype=np.float32)
Y = np.arange(23)
ROOT = Path(__file__).parents[2]


class Rows:
    """A map-style data set."""

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return X[index], Y[index]


class Environment(Rows):
    """Tells what a worker sees of the launcher, and its number of threads."""

    def __getitem__(self, index):
        marks = [name for name in os.environ if name.startswith(("PMI_", "OMPI_")) or name == "SLURM_PROCID"]
        return ",".join(marks), os.environ["OMP_NUM_THREADS"]


class Deadly(Rows):
    """Reading sample 11 ends the process."""

    def __init__(self, how):
        self.how = how

    def __getitem__(self, index):
        if index == 11:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(3)
        return super().__getitem__(index)


class Unpicklable(Exception):
    """An exception that a pipe cannot carry."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


class Broken(Rows):
    """Sample 11 cannot be read."""

    def __init__(self, kind):
        self.kind = kind

    def __getitem__(self, index):
        if index == 11:
            raise self.kind("sample", "eleven")
        return super().__getitem__(index)


class Slow(Rows):
    """Never done with sample 0; tells its process by a file."""

    def __init__(self, path):
        self.path = path

    def __getitem__(self, index):
        Path(self.path).write_text(str(os.getpid()))
        time.sleep(1000)


def test_workers_give_the_batches_of_one_process():
    """In the same order, augmented alike, over several epochs, by the same processes."""
    options = {"batch_size": 4, "shuffle": True, "transform": RandomCrop(padding=1)}
    alone, helped = DataLoader(Rows(), **options), DataLoader(Rows(), num_workers=2, **options)
    for seed in (1, 2):
        random.manual_seed(seed)
        ours, theirs = list(alone), list(helped)
        assert len(ours) == len(theirs) == 6
        for a, b in zip(ours, theirs, strict=True):
            assert (a[0] == b[0]).all()
            assert (a[1] == b[1]).all()
        assert len(multiprocessing.active_children()) == 2
    helped.close()
    assert not multiprocessing.active_children()
    assert len(list(helped)) == 6
    del helped
    assert not multiprocessing.active_children()


def test_an_abandoned_epoch_does_not_leak_into_the_next(tmp_path):
    """After a break the next epoch begins with its own first batch; two at a time are refused."""
    np.save(tmp_path / "x.npy", X)
    dataset = ArrayDataset(np.load(tmp_path / "x.npy", mmap_mode="r"), Y)
    loader = DataLoader(dataset, 4, num_workers=2, prefetch=3)
    for _ in loader:
        break
    assert loader.state_dict() == {"epoch": 0, "batches": 1}
    assert np.concatenate([y for _, y in loader]).tolist() == list(range(23))
    first = iter(loader)
    next(first)
    next(iter(loader))
    with pytest.raises(ValueError, match="one iteration at a time"):
        next(first)


def test_workers_do_not_know_the_launcher(monkeypatch):
    """A worker that imports MPI must not take itself for a rank; it has one thread; our own environment stays."""
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("SLURM_PROCID", "1")
    before = dict(os.environ)
    (batch,) = DataLoader(Environment(), 23, num_workers=1)
    assert set(batch[0]) == {""}
    assert set(batch[1]) == {"1"}
    assert dict(os.environ) == before


@pytest.mark.mpi
def test_workers_work_on_ranks(comm):
    """Each rank has workers of its own; together they read each sample once in as many steps."""
    sampler = DistributedSampler(Rows(), comm.rank, comm.size)
    batches = list(DataLoader(Rows(), 4, sampler=sampler, num_workers=1))
    steps = comm.allgather(np.array(len(batches)))
    counts = comm.allreduce(np.bincount(np.concatenate([y for _, y in batches]), minlength=23).astype(np.float64))
    assert (counts == 1).all()
    assert len(set(steps.tolist())) == 1


@pytest.mark.parametrize(("how", "message"), [("kill", "signal SIGKILL"), ("exit", "exit code 3")])
def test_a_worker_that_dies_is_reported(how, message):
    """Which one, and how; the others are ended."""
    loader = DataLoader(Deadly(how), 4, num_workers=2)
    with pytest.raises(WorkerError, match=rf"data worker 0 \(process \d+\) died: {message}"):
        list(loader)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("kind", "shown"), [(OSError, OSError), (Unpicklable, WorkerError)])
def test_an_exception_in_a_worker_reaches_the_consumer(kind, shown):
    """With the worker's traceback as a note, after the batches before it; the next epoch can go on."""
    loader = DataLoader(Broken(kind), 4, num_workers=2)
    labels = []
    with pytest.raises(shown, match="eleven") as caught:
        labels.extend(y.tolist() for _, y in loader)
    assert labels == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert "In data worker 0" in caught.value.__notes__[0]
    assert "__getitem__" in caught.value.__notes__[0]
    assert len(next(iter(loader))[0]) == 4


def test_what_cannot_be_pickled_is_refused():
    """A lambda cannot be sent to another process."""
    with pytest.raises(TypeError, match=r"`num_workers` .*pickled"):
        list(DataLoader(Rows(), 4, num_workers=1, transform=lambda x: x))


def test_a_worker_dies_with_its_parent(tmp_path):
    """Killed, the parent leaves no process behind, not even one that is busy."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]\n"
        "from distdl.data import DataLoader\n"
        "from test_workers import Slow\n"
        "if __name__ == '__main__':\n"
        f"    list(DataLoader(Slow({str(tmp_path / 'pid')!r}), 1, num_workers=1))\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)])
    child = tmp_path / "pid"
    wait_for(lambda: child.exists() and child.read_text())
    parent.kill()
    parent.wait()
    wait_for(lambda: not alive(int(child.read_text())))


def test_a_script_without_a_main_guard_is_told(tmp_path):
    """The error of the parent says what the script lacks."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from distdl.data import DataLoader\n"
        "list(DataLoader(range(8), 4, num_workers=1))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "a script that starts workers needs `if __name__" in done.stderr


def wait_for(condition):
    """Wait until a condition holds."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid):
    """Say whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def pipe(monkeypatch):
    """The two ends of a pipe for a worker that runs in this process, and what it would exit with."""
    exits = []
    monkeypatch.setattr(os, "_exit", exits.append)
    before = signal.getsignal(signal.SIGINT)
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    yield ours, theirs, exits
    signal.signal(signal.SIGINT, before)


def test_the_loop_of_a_worker(pipe):
    """It answers tasks and errors in order, and ends when the parent closes the pipe."""
    ours, theirs, exits = pipe
    answers = []

    def parent():
        for run in range(2):
            ours.send((run, 7, 0, np.array([10, 11][: run + 1])))
            answers.append(ours.recv())
        ours.close()

    thread = threading.Thread(target=parent)
    thread.start()
    module._work(theirs, pickle.dumps(Fetcher(Broken(OSError))), 5)
    thread.join()
    assert answers[0][:2] == (0, None)
    assert answers[0][2][1].tolist() == [10]
    assert isinstance(answers[1][1], OSError)
    assert random.get_seed() == 7
    assert exits == []


def test_a_worker_gives_up_when_nobody_reads(pipe):
    """A broken pipe ends it; and where it is busy when its parent goes, it exits after a grace."""
    ours, theirs, exits = pipe
    ours.send((0, 0, 0, np.array([1])))
    ours.close()
    module._work(theirs, pickle.dumps(Fetcher(Rows())), 0)
    module._GRACE_SECONDS, before = 0.01, module._GRACE_SECONDS
    try:
        module._read_tasks(theirs, module.queue.SimpleQueue(), threading.Event())
    finally:
        module._GRACE_SECONDS = before
    assert exits == [1]
