"""IDX files, the format of MNIST and its relatives: http://yann.lecun.com/exdb/mnist.

Two zero bytes, a type code, the number of dimensions, the dimensions as big-endian uint32, then the numbers.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Protocol

import numpy as np

from ..core.files import DEFLATE_RATIO, StrPath, bad_file, check_declared, file_size

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_DIMENSIONS = 32


class _Stream(Protocol):
    """A file, or what gunzips one."""

    def read(self, size: int, /) -> bytes: ...


def read_idx(path: StrPath) -> np.ndarray:
    """Read an IDX file, plain or gzipped.

    Args:
        path: the file.

    Returns:
        An array of the file's shape and type, in the byte order of this machine.

    Raises:
        MissingDataError: there is no such file.
        FileFormatError: it is no whole IDX file, or larger than the cap of `distdl.core.files`.
    """
    path = Path(path)
    available = file_size(path)
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not zipped:
            return _read(path, file, available)
        try:
            with gzip.open(file) as stream:
                return _read(path, stream, DEFLATE_RATIO * available)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise bad_file(path, f"must be a whole gzip file ({error})") from error


def _read(path: Path, file: _Stream, available: int) -> np.ndarray:
    shape, dtype, start = _read_header(path, file)
    declared = math.prod(shape) * dtype.itemsize
    check_declared(path, f"an array of shape {shape}", declared, available - start, start)
    content = file.read(declared)
    if len(content) < declared:
        raise bad_file(path, f"must hold {declared} bytes of numbers, holds {len(content)}", start)
    if file.read(1):
        raise bad_file(path, "must end after its numbers, goes on", start + declared)
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _read_header(path: Path, file: _Stream) -> tuple[tuple[int, ...], np.dtype, int]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise bad_file(path, f"must begin with two zero bytes, a type and a number of dimensions; is {magic!r}", 0)
    if magic[2] not in _TYPES:
        raise bad_file(path, f"type code 0x{magic[2]:02x} must be one of {', '.join(map(hex, _TYPES))}", 2)
    if not 1 <= magic[3] <= _MOST_DIMENSIONS:
        raise bad_file(path, f"number of dimensions ({magic[3]}) must lie in [1, {_MOST_DIMENSIONS}]", 3)
    words = file.read(4 * magic[3])
    if len(words) < 4 * magic[3]:
        raise bad_file(path, f"must hold {magic[3]} dimensions, ends in them", 4)
    shape = struct.unpack(f">{magic[3]}I", words)
    if 0 in shape:
        raise bad_file(path, f"dimensions {shape} must be >= 1", 4)
    return shape, np.dtype(_TYPES[magic[2]]), 4 + len(words)
