"""Where a program is: lines of the user's code, for messages."""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
import threading
import traceback
from types import FrameType
from typing import NamedTuple

_LIBRARIES = tuple(path + os.sep for path in sysconfig.get_paths().values() if "lib" in path) + ("<frozen",)
_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep


class Place(NamedTuple):
    """A line of code.

    Attributes:
        file: name without directory: other hosts may keep it elsewhere.
        line: from 1 on.
        function: what it belongs to, "<module>" outside of functions.
    """

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" + (f" in {self.function}" if self.function != "<module>" else "")


def place_of(frame: FrameType) -> Place:
    """Return where a frame is."""
    return Place(os.path.basename(frame.f_code.co_filename), frame.f_lineno or 0, frame.f_code.co_name)


def is_within(frame: FrameType, directory: str) -> bool:
    """Say whether a frame is in a directory (which ends with a separator), or enters a context manager there."""
    name = frame.f_code.co_filename
    return name.startswith(directory) or name == contextlib.__file__


def is_below(frame: FrameType | None, directory: str) -> bool:
    """Say whether a frame was called from a directory, or is there."""
    while frame is not None and not frame.f_code.co_filename.startswith(directory):
        frame = frame.f_back
    return frame is not None


def users_place(frame: FrameType | None) -> Place | None:
    """Return the innermost place that is neither in this package nor in an installed library; None if there is none."""
    while frame is not None and frame.f_code.co_filename.startswith((_PACKAGE, *_LIBRARIES)):
        frame = frame.f_back
    return None if frame is None else place_of(frame)


def main_frame() -> FrameType | None:
    """Return the innermost frame of the main thread."""
    return sys._current_frames().get(threading.main_thread().ident or 0)


def stack(frame: FrameType | None) -> str:
    """Return the lines that led to a frame, as a traceback shows them."""
    return "" if frame is None else "".join(traceback.format_stack(frame))
