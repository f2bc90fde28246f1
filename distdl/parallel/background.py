"""A thread that runs tasks one after another, beside the backward pass."""

import queue
import threading
import weakref
from collections.abc import Callable

Task = Callable[[], None]


class Background:
    """Runs tasks in the order in which they are given.

    Blocking collectives in a thread move data all the time; those that do not block move it only while
    somebody calls MPI, which kernels of milliseconds do not.
    """

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._pending = 0
        # A daemon: a task that hangs does not keep a rank alive that has failed.
        threading.Thread(target=_work, args=(self._tasks, self._ended), name="distdl-reduce", daemon=True).start()
        weakref.finalize(self, self._tasks.put, None)

    def start(self, task: Task) -> None:
        """Give a task; it runs when those before it are done."""
        self._pending += 1
        self._tasks.put(task)

    def wait(self) -> None:
        """Wait until all tasks have run.

        Raises:
            BaseException: what a task raised; those after it did not run.
        """
        while self._pending:
            error = self._ended.get()
            self._pending -= 1
            if error is not None:
                raise error


def _work(tasks: "queue.SimpleQueue[Task | None]", ended: "queue.SimpleQueue[BaseException | None]") -> None:
    failure: BaseException | None = None
    while (task := tasks.get()) is not None:
        if failure is None:
            try:
                task()
            except BaseException as error:
                failure = error
        # Nothing of the last task is held while waiting for the next.
        task = None
        ended.put(failure)
