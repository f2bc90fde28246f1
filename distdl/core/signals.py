"""Handlers of signals for a while."""

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
