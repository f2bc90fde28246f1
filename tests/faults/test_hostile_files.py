"""Files made by hand to do harm: each is refused with the project's error, naming file and rule, at little cost."""

import gzip
import hashlib
import io
import json
import os
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save

from distdl.cluster.hosts import read_hosts
from distdl.core import files, settings
from distdl.core.config import read_config
from distdl.core.errors import FileFormatError
from distdl.data.idx import read_idx
from distdl.data.npy import map_npy, read_npz
from distdl.train import checkpoint as checkpoints
from distdl.train.checkpoint import read_checkpoint, write_checkpoint
from distdl.train.tensors import parse_tensors

LIMIT = 8 << 20
"""Bytes that a reader may hold."""

SECONDS = 5
"""That a reader may take for a file of some kilobytes."""


def npy(shape, descr="<f4", data=b"", fortran=False):
    """A .npy file that claims a shape."""
    text = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def header(text, data=b""):
    """A .npy file with any header."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def archive(*members, compression=zipfile.ZIP_DEFLATED):
    """A zip file of (name, content)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, content in members:
            file.writestr(name, content)
    return stream.getvalue()


def patched(data, old, new, last=False):
    """Bytes with one occurrence exchanged."""
    at = data.rindex(old) if last else data.index(old)
    return data[:at] + new + data[at + len(old) :]


def tensors(entries, data=b"", length=None):
    """A safetensors file with any header (a text, or what JSON makes of it)."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start, stop, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


X = np.arange(6, dtype=np.float32)
GOOD_NPY = npy((6,), data=X.tobytes())
ENTRY = b'{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
TERABYTE = "(549755813888,)"

# reader: {what: (content, what is said)}
HOSTILE = {
    read_idx: {
        "dimensions whose product overflows": (b"\0\0\x08\x03" + b"\xff" * 12, "takes 79228162458924105385300197375"),
        "four gigabytes claimed by sixteen bytes": (b"\0\0\x08\x01\xff\xff\xff\xff" + bytes(8), "can hold only"),
        "more dimensions than arrays have": (b"\0\0\x08\xff" + bytes(1020), "number of dimensions"),
        "no dimensions": (b"\0\0\x08\0" + bytes(8), "number of dimensions"),
        "a type that there is not": (b"\0\0\x0a\x01\0\0\0\1\0", "type code"),
        "a gzip bomb": (gzip.compress(b"\0\0\x08\x01\1\xe0\0\0" + bytes(30 << 20)), "more than the limit"),
        "a gzip bomb that claims little": (gzip.compress(b"\0\0\x08\x01\0\0\0\1" + bytes(30 << 20)), "goes on"),
        "a gzip file within another": (gzip.compress(gzip.compress(b"\0\0\x08\x01\0\0\0\1\0")), "two zero bytes"),
        "a gzip file that ends early": (gzip.compress(b"\0\0\x08\x01\0\0\1\0" + os.urandom(256))[:-20], "whole gzip"),
    },
    map_npy: {
        "terabytes in a hundred bytes": (npy(TERABYTE), "can hold only"),
        "a product that overflows to the file's size": (npy("(4294967296, 4294967296, 1)", data=bytes(64)), "takes"),
        "negative extents whose product is right": (npy("(-2, -3)", data=bytes(24)), "dimensions >= 0"),
        "pickled objects": (npy("(1,)", "|O", b"cos\nsystem\n(S'true'\ntR."), "must hold numbers"),
        "a structure with objects in it": (
            header(b"{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,)}\n", bytes(8)),
            "must hold numbers",
        ),
        "code in the header": (
            header(b"{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': ()}\n"),
            "must begin with a .npy header",
        ),
        "a header nested too deeply": (header(b"[" * 9000 + b"\n"), "must begin with a .npy header"),
        "a header of 64 KiB": (header(b"{'descr': '<f4'," + b" " * 65000 + b"\n"), "must begin with a .npy header"),
        "a huge number in the header": (npy("(" + "9" * 5000 + ",)"), "must begin with a .npy header"),
        "text instead of numbers": (npy("(1,)", "<U4", bytes(16)), "must hold numbers"),
        "more than it declares": (GOOD_NPY + b"#!/bin/sh", "goes on"),
    },
    read_npz: {
        "a zip bomb": (archive(("x.npy", npy((30 << 20,), "|u1") + bytes(30 << 20))), "more than the limit"),
        "a member that claims terabytes": (archive(("x.npy", npy(TERABYTE))), "can hold only"),
        "a name that climbs out": (archive(("../../etc/x.npy", GOOD_NPY)), "must be named NAME.npy"),
        "an absolute name": (archive(("/etc/x.npy", GOOD_NPY)), "must be named NAME.npy"),
        "a name for another system": (archive(("..\\x.npy", GOOD_NPY)), "must be named NAME.npy"),
        "a member that is no array": (archive(("x.npy", GOOD_NPY), ("run.sh", b"true")), "must be named NAME.npy"),
        "pickled objects": (archive(("x.npy", npy("(1,)", "|O", b"cos\nsystem\n(S'true'\ntR."))), "must hold numbers"),
        "an encrypted member": (
            patched(archive(("x.npy", GOOD_NPY)), b"PK\1\2\x14\x03\x14\0\0\0", b"PK\1\2\x14\x03\x14\0\1\0"),
            "not encrypted",
        ),
        "another way to pack": (archive(("x.npy", GOOD_NPY), compression=zipfile.ZIP_BZIP2), "stored or deflated"),
        "a directory of terabytes": (
            archive(("x.npy", GOOD_NPY))[:-22] + b"PK\5\6" + bytes(8) + b"\xff\xff\xff\x7f" + bytes(6),
            "has a directory of",
        ),
        "a hundred thousand members": (archive(*((f"{i}.npy", b"") for i in range(50_000))), "has a directory of"),
        "numbers changed behind their checksum": (
            patched(archive(("x.npy", GOOD_NPY), compression=zipfile.ZIP_STORED), X[3].tobytes(), X[4].tobytes()),
            "Bad CRC-32",
        ),
    },
    parse_tensors: {
        "a header longer than the file": (tensors({}, length=1 << 62), "can hold only"),
        "a header as long as a number is": (tensors({}, length=(1 << 64) - 1), "can hold only"),
        "arrays that overlap": (tensors({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)), "must begin at byte 8"),
        "a hole between arrays": (tensors({"a": entry(0, 8), "b": entry(12, 20)}, bytes(20)), "must begin at byte 8"),
        "bytes that nobody claims": (tensors({"a": entry(0, 8)}, bytes(99)), "its header says 8"),
        "a name that comes twice": (tensors(b'{"a":' + ENTRY + b',"a":' + ENTRY + b"}", bytes(8)), "comes twice"),
        "a shape that is not the bytes'": (tensors({"a": entry(0, 8, (1 << 40,))}, bytes(8)), "takes 4398046511104"),
        "a shape whose product overflows": (
            tensors({"a": entry(0, 8, (1 << 33, 1 << 33))}, bytes(8)),
            "takes 295147905179352825856 bytes",
        ),
        "a type that NumPy has not": (tensors({"a": entry(0, 8, (4,), "BF16")}, bytes(8)), "must be one of"),
        "truth values for numbers": (tensors({"a": entry(False, 8)}, bytes(8)), "two data_offsets"),
        "offsets that run backwards": (tensors({"a": entry(8, 0)}, bytes(8)), "its data_offsets leave -8"),
        "a header nested too deeply": (tensors(b'{"a":' + b"[" * 100_000), "not JSON"),
        "a header of a million values": (tensors(b'{"a":[' + b"0," * 1_000_000 + b"0]}"), "more than 500000"),
        "notes that are no text": (tensors({"__metadata__": {"a": 1}}), "must hold strings"),
    },
    read_hosts: {
        "an option of ssh for a host": (b"-oProxyCommand=reboot:4\n", "must be a host's name"),
        "words for a shell": (b"node1;reboot:4\n", "must be a host's name"),
        "billions of slots": (b"node1:4294967296\n", "must be an integer in"),
        "a name of a megabyte": (b"a" * 900_000 + b":1\n", "must be a host's name"),
        "zeros": (bytes(1000), "must be"),
    },
    read_config: {
        "a value nested too deeply": (b"data = " + b"[" * 30_000, "not TOML"),
        "a number of a thousand digits": (b"bucket_bytes = " + b"9" * 5000, "TOML"),
        "a key that means nothing": (b"bucket_byte = 1\n", "did you mean 'bucket_bytes'?"),
        "a table for a value": (b"[data]\npath = '/'\n", "must be a string"),
        "a file that names itself": (b"config = '/etc/passwd'\n", "means nothing"),
        "a megabyte": (b"#" * (1 << 20), "more than the 65536"),
        "no text": (b"data = '\xff\xfe'\n", "not TOML"),
    },
}


def read(reader, path):
    """Call a reader as its users do."""
    if reader is parse_tensors:
        return parse_tensors(path, files.read_bounded(path))
    return read_config(path, settings.CONFIGURABLE) if reader is read_config else reader(path)


CASES = [
    pytest.param(r, *case, id=f"{r.__name__}: {what}") for r, cases in HOSTILE.items() for what, case in cases.items()
]


@pytest.mark.parametrize(("reader", "content", "said"), CASES)
def test_a_hostile_file_is_refused(tmp_path, reader, content, said):
    """With file and rule, in bounded memory and time."""
    path = tmp_path / "hostile"
    path.write_bytes(content)
    files.set_read_limit(LIMIT)
    tracemalloc.start()
    start = time.monotonic()
    try:
        with pytest.raises(FileFormatError) as refusal:
            read(reader, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        files.set_read_limit(None)
    assert str(path) in str(refusal.value)
    assert said in str(refusal.value)
    assert peak <= 2 * LIMIT + (64 << 20)
    assert time.monotonic() - start < SECONDS


@pytest.fixture
def saved(tmp_path):
    """A good checkpoint."""
    arrays = {"model": {"weight": X}, "optimizer": {}, "metrics": {"sums": np.zeros((0, 0))}}
    return write_checkpoint(tmp_path / "run", 12, arrays, {"epoch": 1})


def forge(saved, **changes):
    """Change the manifest as one who knows how it is made."""
    manifest = json.loads((saved / checkpoints.MANIFEST).read_bytes())
    manifest.pop("sha256")
    manifest["files"] |= changes
    digest = checkpoints._digest(manifest)
    (saved / checkpoints.MANIFEST).write_text(json.dumps({**manifest, "sha256": digest}))


def vouched(data):
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a/b.json", "model.pickle", ".", "model.safetensors\0"]
)
def test_a_manifest_names_only_files_beside_it(saved, name):
    """A name that leads elsewhere, or to another kind of file, is refused."""
    forge(saved, **{name: vouched(b"")})
    with pytest.raises(FileFormatError, match="no file of a checkpoint"):
        read_checkpoint(saved)


def test_a_link_out_of_a_checkpoint_is_refused(saved, tmp_path):
    """Even if what it leads to is what the manifest says."""
    data = (saved / "model.safetensors").read_bytes()
    (tmp_path / "elsewhere").write_bytes(data)
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileFormatError, match="not a link"):
        read_checkpoint(saved)


def test_a_manifest_may_not_vouch_for_hostile_arrays(saved):
    """What it vouches for is still held to the rules of its format."""
    data = tensors({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12))
    (saved / "model.safetensors").write_bytes(data)
    forge(saved, **{"model.safetensors": vouched(data)})
    with pytest.raises(FileFormatError, match="must begin at byte 8"):
        read_checkpoint(saved)


@pytest.mark.parametrize("read", [read_idx, map_npy, read_npz, read_hosts, read_config])
def test_a_pipe_does_not_hang_a_reader(tmp_path, read):
    """Nor does a device, or a directory: only regular files are read."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(FileFormatError, match="must be a regular file"):
            read(path, settings.CONFIGURABLE) if read is read_config else read(path)


def test_weights_load_as_before():
    """The rules let good files pass, with the bits that were saved."""
    arrays = {"a": X, "none": np.zeros((0, 3)), "flag": np.array(True), "i": np.arange(4, dtype=np.int16)}
    found = parse_tensors("weights", save(arrays, {"distdl": "{}"}))
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
