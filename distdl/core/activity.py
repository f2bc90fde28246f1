"""What this process does that takes long for a good reason; messages about a late rank tell it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_open: list[str] = []


@contextlib.contextmanager
def during(what: str) -> Iterator[None]:
    """Note that the block does something that takes long at its first time, such as "compiling kernels"."""
    _open.append(what)
    try:
        yield
    finally:
        _open.remove(what)


def current() -> str:
    """Return what was noted last and is not over; "" for nothing."""
    return _open[-1] if _open else ""
