"""Arrays on disk: .npy and .npz files of NumPy, memory-mapped where they lie uncompressed.

Formats: numpy.lib.format (versions 1 and 2), and ZIP for .npz. Nothing is unpickled.
"""

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Literal, NamedTuple, TypeVar

import numpy as np

from ..core import checks
from ..core.errors import DistdlError
from ..core.files import DEFLATE_RATIO, StrPath, bad_file, check_declared, file_size
from .dataset import ArrayDataset

Member = TypeVar("Member")

_CHUNK = 1 << 20

# What zipfile raises for hostile files: of names, dates, offsets and lengths too.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)

_MOST_DIRECTORY_BYTES = 2 << 20
"""Of a ZIP file's central directory: about thirty thousand members, each of which takes a kilobyte in memory."""

_LOCAL_HEADER = 30
"""Bytes of a ZIP member's own header before its name; the lengths of name and extra field are its last four."""

_ELSEWHERE = (1 << 32) - 1
"""Stands for a length that the record of large files has."""


class _Header(NamedTuple):
    """What the header of a .npy file declares, and how many bytes it takes."""

    shape: tuple[int, ...]
    order: Literal["C", "F"]
    dtype: np.dtype
    size: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def load_arrays(*paths: StrPath, names: Sequence[str] | None = None) -> ArrayDataset:
    """Open arrays on disk as a data set, such as `load_arrays("x.npy", "y.npy")`.

    Args:
        paths: .npy files, or one .npz file.
        names: which arrays of the .npz file, in which order; by default all, in the file's order.

    Returns:
        A data set whose arrays are memory-mapped, read-only; compressed members of an .npz file are in memory.

    Raises:
        MissingDataError: there is no such file.
        ValueError: a damaged file, an unknown name, or arrays of unequal lengths.
    """
    if len(paths) == 1 and Path(paths[0]).suffix == ".npz":
        arrays = read_npz(paths[0], names)
        return ArrayDataset(*arrays.values())
    if names is not None:
        raise checks.bad_value("names", list(names), "must be None for .npy files")
    return ArrayDataset(*map(map_npy, paths))


def map_npy(path: StrPath) -> np.ndarray:
    """Map a .npy file into memory, read-only.

    Raises:
        MissingDataError: there is no such file.
        FileFormatError: it is no whole .npy file of numbers.
    """
    available = file_size(path)
    with open(path, "rb") as file:
        header = _read_header(path, "", file)
    _check_length(path, "", header, available)
    return _map(path, header, 0)


def parse_npy(name: StrPath, content: bytes) -> np.ndarray:
    """Return the array that the bytes of a .npy file hold, read-only.

    Raises:
        FileFormatError: they are no whole .npy file of numbers; `name` is what it calls them.
    """
    header = _read_header(name, "", io.BytesIO(content))
    _check_length(name, "", header, len(content))
    return np.frombuffer(content, header.dtype, offset=header.size).reshape(header.shape, order=header.order)


def read_npz(path: StrPath, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Read an .npz file: stored members are mapped, compressed ones read; all checksums are verified.

    Args:
        path: the file.
        names: which arrays; None means all.

    Returns:
        The arrays by name.

    Raises:
        MissingDataError: there is no such file.
        ValueError: it is no whole .npz file of numbers, or has no array of a name.
    """
    return _each_member(path, names, _read_member)


def npz_rows(path: StrPath, names: Sequence[str] | None = None) -> int:
    """Return the common length of arrays of an .npz file along their first axis, by their headers alone.

    Raises:
        MissingDataError: there is no such file.
        ValueError: it is no .npz file of numbers, has no array of a name, or arrays of unequal lengths.
    """
    lengths = set(_each_member(path, names, _member_rows).values())
    if len(lengths) != 1:
        raise bad_file(path, f"must hold arrays of one length, has {sorted(lengths)}")
    return lengths.pop()


def npy_rows(path: StrPath) -> int:
    """Return the length of the array of a .npy file along its first axis, by its header alone."""
    file_size(path)
    with open(path, "rb") as file:
        return _rows(path, "", _read_header(path, "", file))


def _each_member(
    path: StrPath,
    names: Sequence[str] | None,
    read: Callable[[StrPath, zipfile.ZipFile, zipfile.ZipInfo], Member],
) -> dict[str, Member]:
    available = file_size(path)
    try:
        _check_directory(path, available)
        with zipfile.ZipFile(path) as archive:
            members = _members(path, archive, available)
            for name in names or ():
                if name not in members:
                    raise checks.bad_value("names", name, f"must be one of {', '.join(members)}, which {path} holds")
            return {name: read(path, archive, members[name]) for name in names or members}
    except DistdlError:
        raise
    except _ZIP_ERRORS as error:
        raise bad_file(path, f"must be a whole .npz file ({error})") from error


def _check_directory(path: StrPath, available: int) -> None:
    """Raise if the central directory is too large to be read whole, which zipfile does.

    Its length stands in the record at the end of the file, and for large files in another one before that
    (APPNOTE.TXT 6.3, sections 4.3.14 and 4.3.16, https://pkware.com/appnote).
    """
    with open(path, "rb") as file:
        file.seek(max(0, available - (1 << 16) - 98))
        tail = file.read()
    length = 0
    for signature, at, width in ((b"PK\5\6", 12, 4), (b"PK\6\6", 40, 8)):
        # All of them: which one counts is up to what else stands there.
        for found in re.finditer(re.escape(signature), tail):
            declared = int.from_bytes(tail[found.start() + at : found.start() + at + width], "little")
            length = max(length, declared if declared != _ELSEWHERE else 0)
    if length > _MOST_DIRECTORY_BYTES:
        rule = f"has a directory of {length} bytes, more than the {_MOST_DIRECTORY_BYTES} of thirty thousand arrays"
        raise bad_file(path, rule)


def _members(path: StrPath, archive: zipfile.ZipFile, available: int) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        member = PurePosixPath(info.filename)
        name = info.filename.removesuffix(".npy")
        if member.suffix != ".npy" or member.is_absolute() or ".." in member.parts or "\\" in info.filename:
            raise bad_file(path, f"member {info.filename!r} must be named NAME.npy", info.header_offset)
        if name in members:
            raise bad_file(path, f"member {info.filename!r} must be there once", info.header_offset)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise bad_file(path, f"member {info.filename!r} must be stored or deflated, not encrypted")
        members[name] = info
    declared = sum(info.file_size for info in members.values())
    packed = any(info.compress_type == zipfile.ZIP_DEFLATED for info in members.values())
    check_declared(path, "the content", declared, available * (DEFLATE_RATIO if packed else 1))
    return members


def _read_member(path: StrPath, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    name = info.filename
    with archive.open(info) as stream:
        header = _read_header(path, name, stream)
        _check_length(path, name, header, info.file_size)
        if info.compress_type == zipfile.ZIP_STORED:
            while stream.read(_CHUNK):
                pass  # to the end, where the checksum is compared
        else:
            content = stream.read(header.nbytes)
            if len(content) < header.nbytes or stream.read(1):
                raise bad_file(path, f"member {name!r} must hold {info.file_size} bytes")
            return np.frombuffer(content, header.dtype).reshape(header.shape, order=header.order)
    with open(path, "rb") as file:
        file.seek(info.header_offset + _LOCAL_HEADER - 4)
        name_length, extra_length = np.frombuffer(file.read(4), "<u2").tolist()
    return _map(path, header, info.header_offset + _LOCAL_HEADER + name_length + extra_length)


def _member_rows(path: StrPath, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    with archive.open(info) as stream:
        return _rows(path, info.filename, _read_header(path, info.filename, stream))


def _rows(path: StrPath, member: str, header: _Header) -> int:
    if not header.shape:
        raise bad_file(path, f"{member or 'it'} must have a first axis of samples")
    return header.shape[0]


def _read_header(path: StrPath, member: str, file: IO[bytes]) -> _Header:
    what = f"member {member!r}" if member else "it"
    try:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = readers[version](file)
    # NumPy parses the header as Python text, and what hostile text raises there is not one type.
    except Exception as error:
        if isinstance(error, zipfile.BadZipFile | zlib.error | EOFError):
            raise
        raise bad_file(path, f"{what} must begin with a .npy header of version 1 or 2 ({error})", 0) from error
    if dtype.kind not in "biufc":
        raise bad_file(path, f"{what} must hold numbers, holds {dtype}", 0)
    if any(extent < 0 for extent in shape) or len(shape) > 32:
        raise bad_file(path, f"{what} must have at most 32 dimensions >= 0, has {shape}", 0)
    return _Header(tuple(shape), "F" if fortran else "C", dtype, file.tell())


def _check_length(path: StrPath, member: str, header: _Header, available: int) -> None:
    what = f"an array of shape {header.shape}" + (f" in member {member!r}" if member else "")
    check_declared(path, what, header.nbytes, available - header.size, header.size)
    if header.nbytes < available - header.size:
        raise bad_file(path, f"must end after {what}, goes on", header.size + header.nbytes)


def _map(path: StrPath, header: _Header, start: int) -> np.ndarray:
    if not header.nbytes:
        return np.empty(header.shape, header.dtype)  # nothing cannot be mapped
    return np.memmap(path, header.dtype, "r", start + header.size, header.shape, header.order)
