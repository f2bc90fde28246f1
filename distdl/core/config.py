"""A file of settings, for those who do not want to set a variable on every node: TOML, a key for each variable.

    # DISTDL_CONFIG=/shared/distdl.toml
    stall_timeout = 600
    cache_dir = "/scratch/distdl"

Keys are the variables' names in lower case without DISTDL_. A variable that is set goes before the file.
"""

import difflib
import tomllib
from collections.abc import Collection

from .file_errors import StrPath, bad_file, file_size

PREFIX = "DISTDL_"

MOST_BYTES = 1 << 16


def read_config(path: StrPath, variables: Collection[str]) -> dict[str, str]:
    """Return the text of each variable that a file sets.

    Args:
        path: the file: TOML (https://toml.io), UTF-8, at most 64 KiB.
        variables: the names that there are.

    Raises:
        MissingDataError: there is no such file.
        FileFormatError: it is no TOML, or sets what there is not; names line or key, and the rule.
    """
    size = file_size(path)
    if size > MOST_BYTES:
        raise bad_file(path, f"has {size} bytes, more than the {MOST_BYTES} of a file of settings")
    with open(path, "rb") as file:
        data = file.read(MOST_BYTES)
    try:
        content = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise bad_file(path, f"not TOML: {str(error) or type(error).__name__}") from error
    keys = sorted(name.removeprefix(PREFIX).lower() for name in variables)
    result = {}
    for key, value in content.items():
        if key not in keys:
            near = difflib.get_close_matches(key[:80], keys, 1)
            rule = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(keys)}"
            raise bad_file(path, f"key {key[:80]!r} means nothing{rule}")
        result[f"{PREFIX}{key.upper()}"] = _text(path, key, value)
    return result


def _text(path: StrPath, key: str, value: object) -> str:
    """Return a value as the environment would hold it."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, str | int | float):
        try:
            return str(value)
        except ValueError:
            raise bad_file(path, f"key {key!r} has too many digits") from None
    raise bad_file(path, f"key {key!r} must be a string, a number or true or false, is a {type(value).__name__}")
