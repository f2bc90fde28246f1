"""Worker processes that make batches, for data sets whose samples cost much Python.

They are spawned, never forked: a fork of an MPI process is undefined. Batches travel through pipes, not through
/dev/shm, which is tiny in many containers.
"""

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from ..core import checks, random
from ..core.errors import WorkerError
from .fetch import Fetcher

_LAUNCHERS = ("PMI_", "PMIX_", "PMI2_", "OMPI_", "PRTE_", "HYDI_", "HYDRA_", "MPI_LOCAL", "MPIR_", "PALS_", "FLUX_")
"""Environment variables that begin so make MPI in a child believe that it is a rank."""

_SLURM = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_GRACE_SECONDS = 5.0
"""How long a worker whose parent is gone may go on with what it is doing."""

_environment_lock = threading.Lock()


class WorkerPool:
    """Processes that run a `Fetcher`; they live until `close()`, or until the pool is dropped."""

    def __init__(self, fetch: Fetcher, count: int) -> None:
        """Start `count` workers.

        Raises:
            TypeError: the data set, or a function given to the loader, cannot be pickled.
        """
        try:
            payload = pickle.dumps(fetch)
        except Exception as error:  # what objects raise here is theirs to choose
            rule = f"needs a data set and functions that can be pickled ({error})"
            raise checks.bad_type("num_workers", count, rule) from error
        context = multiprocessing.get_context("spawn")
        self._workers: list[tuple[BaseProcess, Connection]] = []
        self._finalizer = weakref.finalize(self, _close, self._workers)
        self._run = 0
        with _environment_for_workers():
            for i in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=_work, args=(theirs, payload, i), name=f"distdl-data-worker-{i}", daemon=True
                )
                process.start()
                theirs.close()
                self._workers.append((process, ours))

    def close(self) -> None:
        """End the workers."""
        self._finalizer()

    @property
    def closed(self) -> bool:
        """Whether the workers were ended."""
        return not self._finalizer.alive

    def run(self, epoch: int, batches: Iterable[np.ndarray], ahead: int) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield (samples, batch) for each of `batches`, in order, `ahead` of them under way in each worker.

        Raises:
            WorkerError: a worker died.
            ValueError: another run began before this one ended.
        """
        self._run += 1
        run, number = self._run, 0
        pending: deque[tuple[int, np.ndarray]] = deque()
        todo = iter(batches)
        while True:
            while len(pending) < ahead * len(self._workers) and (samples := next(todo, None)) is not None:
                self._send(number % len(self._workers), (run, random.get_seed(), epoch, samples))
                pending.append((number % len(self._workers), samples))
                number += 1
            if not pending:
                return
            worker, samples = pending.popleft()
            yield samples, self._receive(worker, run)
            if self._run != run:
                raise checks.bad_value("num_workers", len(self._workers), "allows one iteration at a time")

    def _send(self, worker: int, task: Any) -> None:
        try:
            self._workers[worker][1].send(task)
        except OSError:
            raise self._death(worker) from None

    def _receive(self, worker: int, run: int) -> Any:
        process, connection = self._workers[worker]
        while True:
            if connection not in wait([connection, process.sentinel]):
                raise self._death(worker)
            try:
                its_run, error, batch = connection.recv()
            except (EOFError, OSError):
                raise self._death(worker) from None
            if its_run != run:
                continue  # of an epoch that was abandoned
            if error is not None:
                raise error
            return batch

    def _death(self, worker: int) -> WorkerError:
        process = self._workers[worker][0]
        process.join(1.0)
        code = process.exitcode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        self.close()
        hint = ' (a script that starts workers needs `if __name__ == "__main__":`)' if code == 1 else ""
        return WorkerError(f"data worker {worker} (process {process.pid}) died: {how}{hint}")


@contextlib.contextmanager
def _environment_for_workers() -> Iterator[None]:
    """Within the block, processes start without the launcher's variables, and with one thread each."""
    with _environment_lock:
        before = dict(os.environ)
        try:
            for name in before:
                if name.startswith(_LAUNCHERS) or name in _SLURM:
                    del os.environ[name]
            os.environ.update(dict.fromkeys(_THREADS, "1"))
            yield
        finally:
            for name in _THREADS:
                os.environ.pop(name, None)
            os.environ.update(before)


def _close(workers: list[tuple[BaseProcess, Connection]]) -> None:
    for _, connection in workers:
        connection.close()
    for process, _ in workers:
        process.terminate()
    for process, _ in workers:
        process.join()


def _work(connection: Connection, payload: bytes, number: int) -> None:
    """Be a worker: answer each task until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    # Read in a thread, so that a parent that sends never waits for a worker that sends, and its death is seen.
    finished = threading.Event()
    threading.Thread(target=_read_tasks, args=(connection, tasks, finished), daemon=True).start()
    try:
        _answer_tasks(connection, tasks, payload, number)
    finally:
        finished.set()


def _answer_tasks(connection: Connection, tasks: "queue.SimpleQueue[Any]", payload: bytes, number: int) -> None:
    fetch: Fetcher | None = None
    while (task := tasks.get()) is not None:
        run, seed, epoch, samples = task
        try:
            fetch = fetch or pickle.loads(payload)
            random.share_seed(seed)
            answer = pickle.dumps((run, None, fetch(epoch, samples)), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            error.add_note(f"In data worker {number}:\n{traceback.format_exc()}")
            answer = _pickled_error(run, error)
        try:
            connection.send_bytes(answer)
        except OSError:
            return


def _pickled_error(run: int, error: Exception) -> bytes:
    try:
        answer = pickle.dumps((run, error, None))
        pickle.loads(answer)
    except Exception:
        stand_in = WorkerError(f"{type(error).__name__}: {error}")
        stand_in.__notes__ = list(error.__notes__)
        return pickle.dumps((run, stand_in, None))
    return answer


def _read_tasks(connection: Connection, tasks: "queue.SimpleQueue[Any]", finished: threading.Event) -> None:
    try:
        while True:
            tasks.put(connection.recv())
    except (EOFError, OSError):
        tasks.put(None)
        if not finished.wait(_GRACE_SECONDS):
            os._exit(1)
