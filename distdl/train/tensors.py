"""Arrays in the safetensors format, from files that may be damaged or hostile.

Eight bytes with the length of the header (little-endian), the header (JSON: for each name dtype, shape and place), then
the numbers, one array after another (https://huggingface.co/docs/safetensors). The library that reads and writes them
lets some damaged headers pass; here the header is held to all of the format's rules before it gets there.
"""

import math
from typing import Any

import numpy as np

from ..core.file_errors import StrPath, bad_file
from ..core.json_files import parse_json

_PREFIX = 8

_SIZES = {f"{kind}{8 * size}": size for kind in "IU" for size in (1, 2, 4, 8)}
_SIZES |= {"F16": 2, "F32": 4, "F64": 8, "BOOL": 1}
"""Bytes of an element, of those types that NumPy has too."""

_MOST_DIMENSIONS = 32


def parse_tensors(path: StrPath, data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file by name.

    Args:
        path: of the file, for messages.
        data: its content.

    Raises:
        FileFormatError: it is no whole safetensors file; names the byte or the array, and the rule.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    _check(path, data)
    try:
        return dict(load(data))
    except SafetensorError as error:
        raise bad_file(path, f"not a whole safetensors file: {error}") from error


def _check(path: StrPath, data: bytes) -> None:
    if len(data) < _PREFIX:
        raise bad_file(path, f"must begin with {_PREFIX} bytes, the length of its header; ends before", 0)
    length = int.from_bytes(data[:_PREFIX], "little")
    if length > len(data) - _PREFIX:
        raise bad_file(path, f"has a header of {length} bytes, the file can hold only {len(data) - _PREFIX}", 0)
    if data[_PREFIX : _PREFIX + 1] != b"{":
        raise bad_file(path, "must have a header that begins with {", _PREFIX)
    header = parse_json(path, data[_PREFIX : _PREFIX + length], _PREFIX)
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise bad_file(path, "__metadata__ must hold strings by name", _PREFIX)
    places = sorted((_place(path, name, entry), name) for name, entry in header.items())
    end = 0
    for (start, stop), name in places:
        if start != end:
            raise bad_file(path, f"array {name[:80]!r} must begin at byte {end} of the numbers, begins at {start}")
        end = stop
    if end != len(data) - _PREFIX - length:
        raise bad_file(path, f"has {len(data) - _PREFIX - length} bytes of numbers, its header says {end}")


def _place(path: StrPath, name: str, entry: Any) -> tuple[int, int]:
    """Return where an array begins and ends, after comparing that with its shape."""
    what = f"array {name[:80]!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise bad_file(path, f"{what} must have dtype, shape and data_offsets, and nothing else")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _SIZES:
        raise bad_file(path, f"{what} has dtype {str(kind)[:20]!r}, which must be one of {', '.join(_SIZES)}")
    if not _are_sizes(shape) or len(shape) > _MOST_DIMENSIONS:
        raise bad_file(path, f"{what} must have a shape of at most {_MOST_DIMENSIONS} integers >= 0")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise bad_file(path, f"{what} must have two data_offsets, integers >= 0")
    declared = math.prod(shape) * _SIZES[kind]
    if offsets[1] - offsets[0] != declared:
        rule = f"{what} of shape {shape} takes {declared} bytes, its data_offsets leave {offsets[1] - offsets[0]}"
        raise bad_file(path, rule)
    return offsets[0], offsets[1]


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)
