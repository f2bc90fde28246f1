"""What is installed here."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata

from ...version import __version__
from .finding import Finding
from .request import Request

LIBRARIES = ("numpy", "numba", "scipy", "mpi4py")


def installed() -> dict[str, str]:
    """Return the versions of distdl, of Python and of the libraries that decide about bits and messages."""
    return {
        "distdl": __version__,
        "Python": platform.python_version(),
        **{name: metadata.version(name) for name in LIBRARIES},
    }


def check(request: Request) -> Iterator[Finding]:
    """Show them."""
    yield Finding("ok", "versions", ", ".join(f"{name} {version}" for name, version in installed().items()))
