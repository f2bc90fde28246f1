"""One call of an operation, for the tests that walk the register."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Case:
    """Positional arguments (float64 arrays, or plain values) and options of an operation."""

    args: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)
