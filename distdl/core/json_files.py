"""JSON from files that may be damaged or hostile."""

import json
from typing import Any

from .file_errors import StrPath, bad_file

MOST_BYTES = 16 << 20

MOST_VALUES = 500_000
"""A value takes up to a hundred bytes in memory, and two in a file."""


def parse_json(path: StrPath, data: bytes, offset: int = 0) -> dict[str, Any]:
    """Return the JSON object that bytes of a file hold, whose memory is bounded before it is taken.

    Args:
        path: of the file, for messages.
        data: the bytes, UTF-8.
        offset: where in the file they begin.

    Raises:
        FileFormatError: they are no JSON object, too many, or a name comes twice.
    """
    if len(data) > MOST_BYTES:
        raise bad_file(path, f"has {len(data)} bytes of JSON, more than {MOST_BYTES}", offset)
    values = sum(map(data.count, (b",", b"[", b"{")))
    if values > MOST_VALUES:
        raise bad_file(path, f"has about {values} values in its JSON, more than {MOST_VALUES}", offset)
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise bad_file(path, f"not JSON: {error}", offset or None) from error
    if not isinstance(value, dict):
        raise bad_file(path, "must be a JSON object", offset or None)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:80]!r} comes twice")
    return result
