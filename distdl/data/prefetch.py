"""Read ahead: a thread that runs a generator some items ahead of who consumes it."""

import contextlib
import queue
import threading
import weakref
from collections.abc import Iterator
from typing import Any

_END = object()


class Prefetcher:
    """Iterates over a generator that runs in a thread of its own.

    An exception in the generator reaches the consumer at its place in the sequence, with its own traceback. The thread
    ends with the sequence, with `close()`, when the prefetcher is dropped, or when the process exits.
    """

    def __init__(self, source: Iterator[Any], depth: int) -> None:
        """Start to run `source`, at most `depth` items ahead."""
        self._items: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
        stop = threading.Event()
        # The thread must not hold `self`: dropping the prefetcher is what ends it.
        thread = threading.Thread(
            target=_produce, args=(source, self._items, stop), name="distdl-prefetch", daemon=True
        )
        self._finalizer = weakref.finalize(self, _end, self._items, stop, thread)
        thread.start()

    def __iter__(self) -> Iterator[Any]:
        """Return itself."""
        return self

    def __next__(self) -> Any:
        """Return the next item, or raise what the generator raised."""
        if not self._finalizer.alive:
            raise StopIteration
        item, error = self._items.get()
        if error is not None:
            self.close()
            raise error
        if item is _END:
            self.close()
            raise StopIteration
        return item

    def close(self) -> None:
        """End the thread, after the item that it is working on."""
        self._finalizer()


def _produce(source: Iterator[Any], items: "queue.Queue[Any]", stop: threading.Event) -> None:
    try:
        for item in source:
            items.put((item, None))
            if stop.is_set():
                return
        items.put((_END, None))
    except BaseException as error:
        items.put((None, error))
    finally:
        if hasattr(source, "close"):
            source.close()


def _end(items: "queue.Queue[Any]", stop: threading.Event, thread: threading.Thread) -> None:
    stop.set()
    if thread is threading.current_thread():
        # The garbage collector ran in the thread itself: it will see the event, if there is room for its item.
        with contextlib.suppress(queue.Empty):
            items.get_nowait()
        return
    while thread.is_alive():
        # The thread may be waiting for room.
        try:
            items.get(timeout=0.01)
        except queue.Empty:
            thread.join(0.01)
