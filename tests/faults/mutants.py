"""Changed files for every reader: whatever stands in one, a reader returns, or raises the project's error.

`python -m tests.faults.mutants READER COUNT SEED` tries so many in a process of its own, whose memory is watched.
"""

import contextlib
import gzip
import io
import json
import random
import resource
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from distdl.cluster.hosts import read_hosts
from distdl.core import files, settings
from distdl.core.config import read_config
from distdl.core.errors import FileFormatError, MissingDataError
from distdl.data.idx import read_idx
from distdl.data.npy import map_npy, read_npz
from distdl.data.sharded.index import INDEX, read_index
from distdl.data.sharded.tar import TarShards
from distdl.parallel import profile
from distdl.train import capture
from distdl.train import checkpoint as checkpoints
from distdl.train.checkpoint import read_checkpoint, write_checkpoint
from distdl.train.tensors import parse_tensors
from tests.cluster.profiles import made, reductions

LIMIT = 1 << 20
"""Bytes that a reader may hold: `set_read_limit`."""

MEMORY = 2 * LIMIT + (64 << 20)
"""Bytes by which the process may grow."""

HANG_SECONDS = 5

_NUMBERS = np.arange(60, dtype=np.float32).reshape(3, 4, 5)

_WORDS = [b"-1", b"0", b"1e999", b"99999999999999999999", b"null", b"[]", b"{}", b'"', b"\\", b"../", b"\0", b"\xff"]


@dataclass(frozen=True)
class Reader:
    """A reader, and good files from which the bad ones are made.

    Attributes:
        seeds: contents of good files.
        read: reads one, given its path.
        finish: makes the content of a file of mutated bytes, where that takes more than writing them.
    """

    seeds: list[bytes]
    read: Callable[[Path], object]
    finish: Callable[[Path, bytes], Path] = lambda place, data: _written(place, data)


def _written(place: Path, data: bytes) -> Path:
    place.write_bytes(data)
    return place


def _idx(dtype: str, code: int) -> bytes:
    array = _NUMBERS.astype(dtype)
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _saved(write: Callable[..., None], *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    stream = io.BytesIO()
    write(stream, *arrays, **named)
    return stream.getvalue()


def _with_level(level: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        archive.writestr("x.npy", _saved(np.save, _NUMBERS))
        archive.writestr("dir/y.npy", _saved(np.save, np.zeros(300)))
    return stream.getvalue()


_TENSORS = [
    save({"weight": _NUMBERS, "bias": np.zeros(3), "count": np.array(7)}, {"distdl": "{}"}),
    save({"flag": np.array([True, False]), "empty": np.zeros((0, 3), np.float16)}),
]

_STATE = {
    "epoch": 1, "step": 12, "step_in_epoch": 2, "is_within": True, "plan": {"steps": 10, "rows": 100}, "ranks": 2,
    "seed": 0, "loader": {"position": 3}, "optimizer": [{"lr": 0.1, "momentum": 0.9}], "callbacks": [],
    "history": [{"epoch": 1, "loss": 0.5}], "metrics": [[1]], "best": {"value": None, "step": None}, "lockstep": {},
}  # fmt: skip


def _checkpoint() -> dict[str, bytes]:
    arrays = {"model": {"weight": _NUMBERS}, "optimizer": {}, "metrics": {"sums": np.zeros((1, 2))}}
    with tempfile.TemporaryDirectory() as directory:
        path = write_checkpoint(directory, 12, arrays, _STATE)
        return {file.name: file.read_bytes() for file in path.iterdir()}


def _with_manifest(place: Path, data: bytes) -> Path:
    """Write a checkpoint with a mutated manifest, which claims its own digest rightly, as a forger's would."""
    with contextlib.suppress(AttributeError, RecursionError, TypeError, ValueError):
        manifest = json.loads(data)
        manifest.pop("sha256", None)
        data = json.dumps({**manifest, "sha256": checkpoints._digest(manifest)}).encode()
    return _put(place, {checkpoints.MANIFEST: data})


def _with_state(place: Path, data: bytes) -> Path:
    """Write a checkpoint with a mutated state, for which its manifest vouches."""
    files_of = _checkpoint_files()
    manifest = json.loads(files_of[checkpoints.MANIFEST])
    manifest.pop("sha256")
    entry = {"bytes": len(data), "sha256": checkpoints.hashlib.sha256(data).hexdigest()}
    manifest["files"][checkpoints.STATE] = entry
    whole = json.dumps({**manifest, "sha256": checkpoints._digest(manifest)}).encode()
    return _put(place, {checkpoints.STATE: data, checkpoints.MANIFEST: whole})


_known: dict[str, bytes] = {}


def _checkpoint_files() -> dict[str, bytes]:
    if not _known:
        _known.update(_checkpoint())
    return _known


def _put(place: Path, changed: dict[str, bytes]) -> Path:
    place.mkdir(exist_ok=True)
    for name, data in {**_checkpoint_files(), **changed}.items():
        (place / name).write_bytes(data)
    return place


def _read_state(path: Path) -> None:
    found = read_checkpoint(path)
    capture.check_state(path, found.state, found.arrays)


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("a/1.npy", "a/1.cls", "a/1.json", "a/2.npy", "a/2.txt", "a/" + 120 * "3" + ".txt"):
            content = {"npy": _saved(np.save, _NUMBERS), "json": b'{"a": [1]}'}.get(name[-4:].strip("."), b"7")
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def _read_tar(path: Path) -> None:
    samples = TarShards([path])
    for number in range(len(samples)):
        samples[number]


def _with_index(place: Path, data: bytes) -> Path:
    place.mkdir(exist_ok=True)
    (place / INDEX).write_bytes(data)
    return place


_ENTRY = {"files": ["a.npz", "b/c.npy"], "samples": 7, "checksums": 2 * ["0" * 32]}
_INDEX = json.dumps({"format": 1, "shards": [_ENTRY, _ENTRY]}).encode()
_PROFILE = made(between=reductions(lambda nbytes: 1e-4 + 1e-9 * nbytes)).to_json().encode()
_HOSTS = b"# of the lab\nnode1:4\nnode2 slots=2 max_slots=8\n10.0.0.7\n"
_CONFIG = b'# for all\nstall_timeout = 600\ncache_dir = "/scratch/distdl"\noverlap = false\nbucket_bytes = 1_000_000\n'

READERS: dict[str, Callable[[], Reader]] = {
    "idx": lambda: Reader([_idx(">u1", 8), _idx(">f4", 13), gzip.compress(_idx(">u1", 8), mtime=0)], read_idx),
    "npy": lambda: Reader([_saved(np.save, _NUMBERS), _saved(np.save, np.asfortranarray(_NUMBERS))], map_npy),
    "npz": lambda: Reader(
        [_saved(np.savez, x=_NUMBERS), _saved(np.savez_compressed, x=_NUMBERS, y=np.zeros(9)), _with_level(9)], read_npz
    ),
    "safetensors": lambda: Reader(_TENSORS, lambda path: parse_tensors(path, files.read_bounded(path))),
    "manifest": lambda: Reader([_checkpoint_files()[checkpoints.MANIFEST]], read_checkpoint, _with_manifest),
    "state": lambda: Reader([_checkpoint_files()[checkpoints.STATE]], _read_state, _with_state),
    "hosts": lambda: Reader([_HOSTS], read_hosts),
    "tar": lambda: Reader([_tar()], _read_tar),
    "index": lambda: Reader([_INDEX], read_index, _with_index),
    "profile": lambda: Reader([_PROFILE], profile.load),
    "config": lambda: Reader([_CONFIG], lambda path: read_config(path, settings.CONFIGURABLE)),
}


def mutate(rng: random.Random, seeds: list[bytes]) -> bytes:
    """Change a good file in up to four places: bits, numbers, words, pieces left out, doubled or exchanged."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        if not data:
            break
        at, length = rng.randrange(len(data)), rng.choice((1, 1, 2, 4, 8, 30))
        kind = rng.randrange(9)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x5B, 0x7B, rng.randrange(256)))
        elif kind == 2:
            width = rng.choice((2, 4, 8))
            value = rng.choice(
                (0, 1, (1 << 8 * width) - 1, 1 << (8 * width - 1), rng.getrandbits(8 * width), len(data))
            )
            data[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            del data[at : at + length]
        elif kind == 5:
            data[at:at] = data[at : at + length] * rng.choice((1, 1, 2, 50))
        elif kind == 6:
            data[at : at + rng.choice((0, length))] = rng.choice(_WORDS)
        elif kind == 7:
            other = rng.choice(seeds)
            start = rng.randrange(len(other))
            data[at : at + length] = other[start : start + length]
        else:
            _change_digits(rng, data, at)
    return bytes(data)


def _change_digits(rng: random.Random, data: bytearray, at: int) -> None:
    """Exchange the next number that is written out in digits."""
    while at < len(data) and not 0x30 <= data[at] <= 0x39:
        at += 1
    end = at
    while end < len(data) and 0x30 <= data[end] <= 0x39:
        end += 1
    if at < end:
        data[at:end] = rng.choice((b"0", b"1", b"7", b"4294967296", b"9223372036854775808", b"1" * 400, b"-3", b"0.5"))


@dataclass
class Tally:
    """What became of the mutants of one reader.

    Attributes:
        count, refused: how many there were, and how many were refused.
        slowest: seconds that one took at most.
        grown: bytes by which the process has grown.
    """

    count: int
    refused: int
    slowest: float
    grown: int


def attack(name: str, count: int, seed: int) -> Tally:
    """Read so many mutants; what a reader raises that is not the project's error is raised, with the number."""
    reader = READERS[name]()
    files.set_read_limit(LIMIT)
    refused, slowest = 0, 0.0
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / ("checkpoint-0000000012" if name in ("manifest", "state") else "mutant")
        for data in reader.seeds:
            reader.read(reader.finish(place, data))
        before = _peak()
        for number in range(count):
            data = mutate(random.Random(f"{name} {seed} {number}"), reader.seeds)
            path = reader.finish(place, data)
            # A hang ends the process, with a traceback.
            signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
            start = time.perf_counter()
            try:
                reader.read(path)
            except (FileFormatError, MissingDataError):
                refused += 1
            except BaseException as error:
                raise AssertionError(f"{name}, seed {seed}, mutant {number}: {data[:200]!r}") from error
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            slowest = max(slowest, time.perf_counter() - start)
    return Tally(count, refused, slowest, _peak() - before)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def attack_apart(name: str, count: int, seed: int = 0) -> Tally:
    """Do what `attack` does in a process of its own."""
    command = [sys.executable, "-m", "tests.faults.mutants", name, str(count), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:] or f"{name}: ended by signal {-done.returncode}"
    return Tally(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    print(json.dumps(vars(attack(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
