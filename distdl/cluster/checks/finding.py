"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the check-up.

    Attributes:
        state: "ok" (green), "warn" (yellow: it will run, not as it should) or "fail" (red: it will not).
        subject: what was looked at.
        text: what was found, and if it is not well, what to do.
    """

    state: State
    subject: str
    text: str
