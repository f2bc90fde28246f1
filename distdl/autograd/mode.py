"""The switches of recording, one set for each thread."""

import threading
from contextlib import ContextDecorator


class _Mode(threading.local):
    enabled = True
    anomaly = False


mode = _Mode()


def is_grad_enabled() -> bool:
    """Say whether operations are being recorded in this thread."""
    return mode.enabled


class _SetMode(ContextDecorator):
    """Sets one switch of this thread's mode within a block, or around a function."""

    switch: str
    value: bool

    def __init__(self) -> None:
        self._before: list[bool] = []

    def _recreate_cm(self) -> "_SetMode":
        # A decorated function may run in several threads at a time: each call keeps its own `before`.
        return type(self)()

    def __enter__(self) -> None:
        self._before.append(getattr(mode, self.switch))
        setattr(mode, self.switch, self.value)

    def __exit__(self, *exception: object) -> None:
        setattr(mode, self.switch, self._before.pop())


class no_grad(_SetMode):
    """Record nothing within the block (or the decorated function)."""

    switch, value = "enabled", False


class enable_grad(_SetMode):
    """Record again within a block of `no_grad`."""

    switch, value = "enabled", True


class detect_anomaly(_SetMode):
    """Look for corruption, at a price: for debugging.

    Operations recorded within the block keep a checksum of what their gradient reads, plain arrays
    too, so that backward finds even changes made behind the tensor's back (`x.numpy()[0] = 5`), and
    every gradient is searched for NaN, so that the operation that made it is named.
    """

    switch, value = "anomaly", True
