"""Host files: one host a line with its slots, as MPICH (`name:4`) or Open MPI (`name slots=4`) write them."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..core.errors import FileFormatError
from ..core.files import StrPath, bad_file, file_size

MOST_BYTES = 1 << 20
"""Of a host file: about twenty thousand hosts."""

MOST_SLOTS = 1 << 16

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})")
_LINE = re.compile(r"(?P<name>[^\s:]+)(?::(?P<count>\S+))?(?P<options>(?:\s+\w+\s*=\s*\S+)*)")
_OPTION = re.compile(r"(\w+)\s*=\s*(\S+)")


class Host(NamedTuple):
    """A machine.

    Attributes:
        name: as a remote shell takes it.
        slots: how many ranks it takes.
    """

    name: str
    slots: int


def read_hosts(path: StrPath) -> list[Host]:
    """Read a host file. What follows a # is a comment; a host without slots has one; one that is named again has more.

    Args:
        path: the file: ASCII, at most a mebibyte.

    Returns:
        The hosts in the order of their first lines; there is at least one.

    Raises:
        MissingDataError: there is no such file.
        FileFormatError: a line is none of a host file; names line and rule.
    """
    size = file_size(path)
    if size > MOST_BYTES:
        raise bad_file(path, f"has {size} bytes, more than the {MOST_BYTES} of the longest host file")
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES)
    slots: dict[str, int] = {}
    for number, line in enumerate(content.split(b"\n"), 1):
        host = _parse(path, number, line)
        if host is not None:
            slots[host.name] = slots.get(host.name, 0) + host.slots
    if not slots:
        raise bad_file(path, "must name a host")
    return [Host(name, count) for name, count in slots.items()]


def _parse(path: StrPath, number: int, line: bytes) -> Host | None:
    try:
        text = line.decode("ascii").partition("#")[0].strip()
    except UnicodeDecodeError:
        raise _bad_line(path, number, "must be ASCII") from None
    if not text:
        return None
    found = _LINE.fullmatch(text)
    if found is None:
        raise _bad_line(path, number, f"{text[:80]!r} must be NAME, NAME:SLOTS or NAME slots=SLOTS")
    # A name that began with a dash would be an option of mpiexec or ssh.
    if not _NAME.fullmatch(found["name"]):
        raise _bad_line(path, number, f"{found['name'][:80]!r} must be a host's name or IPv4 address")
    options = dict(_OPTION.findall(found["options"]))
    for name in options:
        if name not in ("slots", "max_slots", "max-slots"):
            raise _bad_line(path, number, f"option {name[:80]!r} must be slots or max_slots")
    if found["count"] is not None and "slots" in options:
        raise _bad_line(path, number, "must say slots once")
    return Host(found["name"], _slots(path, number, found["count"] or options.get("slots", "1")))


def _slots(path: StrPath, number: int, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= MOST_SLOTS:
        raise _bad_line(path, number, f"slots {text[:80]!r} must be an integer in [1, {MOST_SLOTS}]")
    return int(text)


def _bad_line(path: StrPath, number: int, rule: str) -> FileFormatError:
    return bad_file(path, f"line {number}: {rule}")
