"""Handlers of signals: for a while, and a note of what comes when nobody listens."""

import atexit
import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType


def handle(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> Callable[[], None]:
    """Have signals handled, and return what puts their handlers from before back.

    Only a main thread can; on others nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = {number: signal.signal(number, handler) for number in numbers}

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    return restore


_noted: set[int] = set()


def note(number: int) -> None:
    """From now on take a note of a signal which would end the process, until somebody else handles it.

    At the end of the interpreter it is ignored. A handler that is there already stays.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(number) is signal.SIG_DFL:
        signal.signal(number, lambda number, frame: _noted.add(number))
        # Python puts the default action back before the process is gone.
        atexit.register(signal.signal, number, signal.SIG_IGN)


def take_note(number: int) -> bool:
    """Return whether a note was taken of a signal, and forget it."""
    if number not in _noted:
        return False
    _noted.remove(number)
    return True
