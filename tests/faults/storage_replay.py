"""What a disk may hold after a crash: the calls of a write replayed, less what nobody had asked to be kept.

A killed process tests no sync: the system still has what it wrote. So the calls that strace has seen are played on a
model of a file system, in which only what was synced is certain: the content of a file by fsync of it, the names in a
directory by fsync of that. Of the rest any part may be lost: a file may lack what was written to it, hold only its
beginning, or zeros; a name may be missing, or still be where it was.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

_CALLS = "openat,open,write,fsync,mkdir,rename,symlink,unlink,unlinkat,rmdir"
TRACE = ["-y", "-xx", "-s", "10000000", "-e", f"trace={_CALLS}"]
"""Options of strace: all that changes files, with whole texts in hexadecimal."""

_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


class File:
    """A file, a link or a directory.

    Attributes:
        data: what the process has written to a file.
        synced: what of it is certain.
        link: where a link leads; None of others.
        names: what a directory holds: names and files; None of others.
    """

    def __init__(self, data=b"", link=None, names=None):
        self.data = self.synced = data
        self.link = link
        self.names = names


@dataclass
class Change:
    """A change of names in a directory.

    Attributes:
        directory: in which.
        removed: a name that goes.
        added: a name that comes, with its file.
        synced: whether it is certain.
    """

    directory: File
    removed: str = ""
    added: tuple[str, File] | None = None
    synced: bool = False


@dataclass
class Crash:
    """A moment at which the machine may stop.

    Attributes:
        changes: of names, up to then, in their order, and whether each is certain.
        contents: of each file that was written to: what is certain, and what there was in the cache.
        has_returned: whether the write had been said to be done.
    """

    changes: list[tuple[Change, bool]]
    contents: dict[File, tuple[bytes, bytes]]
    has_returned: bool


@dataclass
class Replay:
    """Reads a log of strace, and lists the moments of crashes.

    Args:
        root: the directory below which files change, as it was before.
        log: what strace has written.
    """

    root: Path
    log: Path
    crashes: list[Crash] = field(default_factory=list)

    def __post_init__(self):
        self.start = _scan(self.root)
        self._changes: list[Change] = []
        self._written: list[File] = []
        self._open: dict[int, File] = {}
        self._has_returned = False
        # The names that the process sees, beside those that are certain.
        self._seen = {self.start: dict(self.start.names)}
        for directory in _below(self.start):
            self._seen[directory] = dict(directory.names)

    def play(self):
        """Return the moments, one after each call."""
        self._keep()
        for line in self.log.read_text().splitlines():
            found = _CALL.match(line)
            if found and int(found[3]) >= 0:
                texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(found[2])]
                getattr(self, f"_{found[1]}")(found[2], texts, int(found[3]))
                self._keep()
        return self.crashes

    def _keep(self):
        contents = {file: (file.synced, file.data) for file in self._written}
        changes = [(change, change.synced) for change in self._changes]
        self.crashes.append(Crash(changes, contents, self._has_returned))

    def _openat(self, words, texts, result):
        place = self._find(texts[0], words)
        if place is None:
            return
        directory, name = place
        if name and name not in self._seen[directory]:
            self._add(directory, name, File())
        self._open[result] = self._seen[directory][name] if name else directory
        if "O_TRUNC" in words:
            self._open[result].data = b""

    _open_ = _openat

    def _write(self, words, texts, result):
        number = int(re.match(r"\d+", words)[0])
        if number in self._open:
            file = self._open[number]
            file.data += texts[-1][:result]
            if file not in self._written:
                self._written.append(file)
        elif texts[-1] == b"x":
            self._has_returned = True

    def _fsync(self, words, texts, result):
        file = self._open.get(int(re.match(r"\d+", words)[0]))
        if file is None:
            return
        file.synced = file.data
        for change in self._changes:
            change.synced = change.synced or change.directory is file

    def _mkdir(self, words, texts, result):
        if place := self._find(texts[0], words):
            self._add(*place, File(names={}))

    def _symlink(self, words, texts, result):
        if place := self._find(texts[1], words):
            self._add(*place, File(link=texts[0].decode()))

    def _rename(self, words, texts, result):
        source, target = (self._find(text, words) for text in texts)
        file = self._seen[source[0]].pop(source[1])
        assert source[0] is target[0], "a rename between directories"
        self._seen[target[0]][target[1]] = file
        self._changes.append(Change(target[0], source[1], (target[1], file)))

    def _unlink(self, words, texts, result):
        # Directories are opened, and what is in them removed by their descriptors.
        if place := self._find(texts[-1], words):
            del self._seen[place[0]][place[1]]
            self._changes.append(Change(place[0], place[1]))

    _unlinkat = _rmdir = _unlink

    def _add(self, directory, name, file):
        self._seen[directory][name] = file
        if file.names is not None:
            self._seen[file] = {}
        self._changes.append(Change(directory, added=(name, file)))

    def _find(self, path, words):
        """Return the directory of a path below the root, and its last name; None of others."""
        number = re.match(r"(\d+)<", words)
        text = path.decode()
        if not text.startswith("/") and number and int(number[1]) in self._open:
            return self._open[int(number[1])], text
        if not text.startswith(f"{self.root}/"):
            return None if text != str(self.root) else (self.start, "")
        *above, name = Path(text).relative_to(self.root).parts
        directory = self.start
        for part in above:
            directory = self._seen[directory][part]
        if name and isinstance(self._seen[directory].get(name), File) and self._seen[directory][name].names is not None:
            return directory, name
        return directory, name


def _scan(path):
    """Return what there is below a directory, all of it certain."""
    names = {}
    for entry in os.scandir(path):
        if entry.is_symlink():
            names[entry.name] = File(link=os.readlink(entry.path))
        elif entry.is_dir():
            names[entry.name] = _scan(entry.path)
        else:
            names[entry.name] = File(Path(entry.path).read_bytes())
    return File(names=names)


def _below(directory):
    for file in directory.names.values():
        if file.names is not None:
            yield file
            yield from _below(file)


def build(start, crash, keeps, content, path):
    """Write to `path` what a disk may hold after a crash.

    Args:
        start: what there was before.
        crash: the moment.
        keeps: says of a change of names that is not certain whether the disk has it.
        content: says what a file holds, of (what is certain, what was written).
        path: a directory that does not exist.
    """
    names = {start: dict(start.names)}
    for directory in _below(start):
        names[directory] = dict(directory.names)
    for change, is_certain in crash.changes:
        if is_certain or keeps(change):
            entries = names.setdefault(change.directory, {})
            entries.pop(change.removed, None)
            if change.added is not None:
                entries[change.added[0]] = change.added[1]
    _put(start, names, crash.contents, content, path)


def _put(directory, names, contents, content, path):
    path.mkdir()
    for name, file in names.get(directory, {}).items():
        if file.link is not None:
            os.symlink(file.link, path / name)
        elif file.names is not None:
            _put(file, names, contents, content, path / name)
        else:
            certain, written = contents.get(file, (file.synced, file.synced))
            (path / name).write_bytes(content(certain, written) if certain != written else certain)
