"""What can be said of a file before it is read: that it is none, and the error for what is wrong in it."""

import os
import stat

from .errors import FileFormatError, MissingDataError

StrPath = str | os.PathLike[str]


def bad_file(path: StrPath, rule: str, offset: int | None = None) -> FileFormatError:
    """Build (not raise) the error for a file whose content breaks `rule`, at byte `offset`."""
    place = "" if offset is None else f", byte {offset}"
    return FileFormatError(f"{os.fspath(path)}{place}: {rule}")


def file_size(path: StrPath) -> int:
    """Return the size in bytes of a regular file that can be read, or raise.

    Raises:
        MissingDataError: there is no such file.
        FileFormatError: it is a directory or a device, or must not be read.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingDataError(f"{os.fspath(path)}: no such file") from None
    except (OSError, ValueError) as error:
        raise bad_file(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(status.st_mode):
        raise bad_file(path, "must be a regular file")
    if not os.access(path, os.R_OK):
        raise bad_file(path, "cannot be read: permission denied")
    return status.st_size
