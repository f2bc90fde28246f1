"""Checkpoints on disk: all of one is there and unharmed, or it does not count.

A checkpoint is a directory `checkpoint-0000000120` (the step) with arrays as safetensors, everything else as
`state.json`, and a manifest: length and SHA-256 of each file, and of itself. It is written under another name, synced
and renamed, so that a crash at any moment leaves the ones before as they were. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core.errors import FileFormatError, MissingDataError
from ..core.files import (
    StrPath,
    bad_file,
    check_declared,
    file_size,
    make_directory,
    read_bounded,
    sync_directory,
    write_durably,
)
from ..core.json_files import parse_json
from ..version import __version__
from .tensors import parse_tensors

FORMAT = 1
MANIFEST, STATE = "manifest.json", "state.json"
BEST = "best"

Arrays = Mapping[str, Mapping[str, np.ndarray]]
"""Arrays by file (without its ending) and name."""

_NAME = re.compile(r"checkpoint-(\d{10})")
_FILE = re.compile(r"[a-z][a-z_]{0,60}\.(safetensors|json)")
_MOST_MANIFEST_BYTES = 1 << 20
_UNFINISHED = re.compile(r"\.(checkpoint-\d{10}|best)\.[0-9a-f]{8}\.(tmp|old)")


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        path: of its directory.
        step: how many steps had been taken.
        arrays: by file and name.
        state: everything else, JSON-like.
    """

    path: Path
    step: int
    arrays: dict[str, dict[str, np.ndarray]]
    state: dict[str, Any]


def write_checkpoint(directory: StrPath, step: int, arrays: Arrays, state: Mapping[str, Any]) -> Path:
    """Write a checkpoint below a directory, which is made if need be, and return its path.

    Raises:
        OSError: the disk is full, or the directory cannot be written; earlier checkpoints are as they were.
    """
    from safetensors.numpy import save

    directory = Path(directory)
    make_directory(directory)
    target = checkpoint_path(directory, step)
    working = directory / f".{target.name}.{secrets.token_hex(4)}.tmp"
    working.mkdir()
    try:
        files = {STATE: json.dumps(dict(state)).encode()}
        for name, content in arrays.items():
            files[f"{name}.safetensors"] = save({key: np.asarray(a, order="C") for key, a in content.items()})
        entries = {}
        for name, data in files.items():
            write_durably(working / name, data)
            entries[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest = {"format": FORMAT, "distdl": __version__, "step": step, "files": entries}
        write_durably(working / MANIFEST, json.dumps({**manifest, "sha256": _digest(manifest)}, indent=1).encode())
        _replace(working, target)
    except BaseException:
        shutil.rmtree(working, ignore_errors=True)
        raise
    sync_directory(directory)
    return target


def checkpoint_path(directory: StrPath, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return Path(directory) / f"checkpoint-{step:010d}"


def mark_best(path: Path) -> None:
    """Let the name `best` beside a checkpoint lead to it; there is none where the file system has no such links."""
    working = path.with_name(f".{BEST}.{secrets.token_hex(4)}.tmp")
    with contextlib.suppress(OSError):
        os.symlink(path.name, working)
        os.replace(working, path.with_name(BEST))


def _replace(working: Path, target: Path) -> None:
    """Rename a directory; one of that name, from a run that was taken up before it, makes room for a moment."""
    if not target.exists():
        os.rename(working, target)
        return
    old = working.with_suffix(".old")
    os.rename(target, old)
    os.rename(working, target)
    # Else a crash might remove what the old one held, and keep its name.
    sync_directory(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def list_checkpoints(directory: StrPath) -> list[Path]:
    """Return the checkpoints below a directory, damaged ones too, the newest first; none if it does not exist."""
    try:
        found = [path for path in Path(directory).iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, reverse=True)


def tidy_checkpoints(directory: StrPath, keep: int, spare: Path | None = None) -> None:
    """Remove all but the newest `keep` checkpoints and `spare`, and what interrupted writes have left."""
    restore_checkpoints(directory)
    doomed = [path for path in list_checkpoints(directory)[keep:] if path != spare]
    doomed += [path for path in Path(directory).iterdir() if _UNFINISHED.fullmatch(path.name)]
    for path in doomed:
        # First the manifest: what is half removed must not look whole.
        with contextlib.suppress(OSError):
            (path if path.is_symlink() else path / MANIFEST).unlink()
        shutil.rmtree(path, ignore_errors=True)


def restore_checkpoints(directory: StrPath) -> None:
    """Give back its name to a checkpoint that had made room for one that was never put in its place."""
    for path in Path(directory).glob(".checkpoint-*.old"):
        target = path.with_name(path.name[1:].partition(".")[0])
        if _UNFINISHED.fullmatch(path.name) and not target.exists():
            os.rename(path, target)


def read_manifest(path: StrPath) -> dict[str, Any]:
    """Return the manifest of a checkpoint.

    Raises:
        MissingDataError: there is no checkpoint, or it was not finished.
        FileFormatError: the manifest is damaged, or of another format.
    """
    place = Path(path) / MANIFEST
    if not Path(path).is_dir():
        raise MissingDataError(f"{os.fspath(path)}: no such checkpoint")
    if file_size(place) > _MOST_MANIFEST_BYTES:
        raise bad_file(place, f"must have at most {_MOST_MANIFEST_BYTES} bytes")
    manifest = parse_json(place, read_bounded(place))
    if manifest.get("format") != FORMAT:
        raise bad_file(place, f"format {manifest.get('format')!r} must be {FORMAT}")
    claimed = manifest.pop("sha256", None)
    try:
        digest = _digest(manifest)
    except RecursionError:
        raise bad_file(place, "is nested too deeply") from None
    if claimed != digest:
        raise bad_file(place, "does not have the SHA-256 that it claims")
    files, step = manifest.get("files"), manifest.get("step")
    if not isinstance(files, dict) or type(step) is not int or STATE not in files:
        raise bad_file(place, "must have a step, and files with their lengths")
    for name, entry in files.items():
        if not _FILE.fullmatch(name):
            raise bad_file(place, f"names {name!r}, which is no file of a checkpoint")
        if not isinstance(entry, dict) or not isinstance(entry.get("bytes"), int) or entry["bytes"] < 0:
            raise bad_file(place, f"must say how many bytes {name!r} has")
    return manifest


def read_checkpoint(path: StrPath) -> Checkpoint:
    """Read a checkpoint whole, after comparing every file with the manifest.

    Raises:
        MissingDataError: there is no checkpoint, or a file of it is missing.
        FileFormatError: a file is not what the manifest says.
    """
    manifest = read_manifest(path)
    arrays, state = {}, {}
    for name, entry in manifest["files"].items():
        data = _read_file(Path(path) / name, entry)
        if name == STATE:
            state = parse_json(Path(path) / name, data)
        else:
            arrays[name.removesuffix(".safetensors")] = parse_tensors(Path(path) / name, data)
    return Checkpoint(Path(path), manifest["step"], arrays, state)


def _read_file(path: Path, entry: Mapping[str, Any]) -> bytes:
    if path.is_symlink():
        # It could lead out of the directory.
        raise bad_file(path, "must be a file, not a link")
    size = file_size(path)
    if size != entry["bytes"]:
        raise bad_file(path, f"has {size} bytes where the manifest says {entry['bytes']}")
    check_declared(path, "the file", size, size)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != entry.get("sha256"):
        raise bad_file(path, "does not have the SHA-256 that the manifest says")
    return data


def verify_checkpoint(path: StrPath) -> list[str]:
    """Return what is wrong with a checkpoint, a line for each file; nothing if it is good."""
    try:
        manifest = read_manifest(path)
    except (FileFormatError, MissingDataError) as error:
        return [str(error)]
    problems = []
    for name, entry in manifest["files"].items():
        try:
            _read_file(Path(path) / name, entry)
        except (FileFormatError, MissingDataError) as error:
            problems.append(str(error))
    return problems


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
