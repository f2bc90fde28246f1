"""What a job asks a scheduler for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...core import checks

NOTICE_SECONDS = 120
"""Before the time is over: enough for two steps and a checkpoint."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@+-]{0,252}")
_TIME = re.compile(r"(\d{1,4}):([0-5]\d):([0-5]\d)")


@dataclass(frozen=True)
class Request:
    """A job's size, its time and its place.

    Attributes:
        nodes: how many.
        ranks: on each node.
        cores: of each rank, which are its threads.
        time: HH:MM:SS; at least five minutes, since notice is given two minutes before its end.
        name: of the job and its directory: a letter, then letters, digits, `_`, `.` or `-`; "": none.
        account, queue: where the cluster asks for them (a queue is Slurm's partition).
        python: the Python that has distdl.
        setup: lines of shell that come before, such as `module load openmpi`; None: hints.
        image: of the container, on Kubernetes.
        command: the script and its arguments; empty: the job script takes them, or names an example.
    """

    nodes: int = 2
    ranks: int = 4
    cores: int = 4
    time: str = "01:00:00"
    name: str = "distdl"
    account: str | None = None
    queue: str | None = None
    python: str = "python"
    setup: Sequence[str] | None = None
    image: str = "distdl:latest"
    command: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("nodes", "ranks", "cores"):
            checks.integer(name, getattr(self, name), 1)
        if self.name and not _NAME.fullmatch(self.name):
            raise checks.bad_value("name", self.name, "must be a letter, then at most 62 letters, digits, _, . or -")
        for name in ("account", "queue", "python", "image"):
            value = getattr(self, name)
            if value is not None and not _WORD.fullmatch(value.removeprefix("/").removeprefix("~/")):
                raise checks.bad_value(name, value, "must be one word of letters, digits and _ . : / @ + -")
        for line in self.setup or ():
            _one_line("setup", line)
        for word in self.command:
            _one_line("command", word)
        found = _TIME.fullmatch(self.time)
        if found is None or self.seconds <= 2 * NOTICE_SECONDS:
            raise checks.bad_value("time", self.time, "must be HH:MM:SS, five minutes or more")

    @property
    def seconds(self) -> int:
        """The time in seconds."""
        hours, minutes, seconds = map(int, self.time.split(":"))
        return 3600 * hours + 60 * minutes + seconds


def clock(seconds: int) -> str:
    """Return seconds as HH:MM:SS."""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _one_line(name: str, text: str) -> None:
    if not text.isprintable():
        raise checks.bad_value(name, text, "must be printable, on one line")
