"""The environment variables of distdl."""

from __future__ import annotations

from collections.abc import Iterator

from ...core import settings
from .finding import Finding
from .request import Request


def check(request: Request) -> Iterator[Finding]:
    """Show those that are set; one that means nothing is a warning."""
    unknown = settings.unknown()
    if unknown:
        text = f"{', '.join(unknown)} means nothing; there are {', '.join(settings.VARIABLES)}"
        yield Finding("warn", "settings", text)
        return
    given = [f"{name}={said}" for name in settings.VARIABLES if (said := settings.value(name))]
    yield Finding("ok", "settings", ", ".join(given) or "none of the environment variables of distdl is set")
