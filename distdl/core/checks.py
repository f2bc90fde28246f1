"""Argument checks. Every message names the argument, the value received, and the rule."""

import math
import numbers
from collections.abc import Collection
from pathlib import Path
from typing import Any

from .errors import ArgumentError, ArgumentTypeError


def bad_value(name: str, value: Any, rule: str) -> ArgumentError:
    """Build (not raise) the error for an argument whose value breaks `rule`."""
    return ArgumentError(f"`{name}` (={value!r}) {rule}")


def bad_type(name: str, value: Any, rule: str) -> ArgumentTypeError:
    """Build (not raise) the error for an argument whose type breaks `rule`."""
    return ArgumentTypeError(f"`{name}` (={value!r}, {type(value).__name__}) {rule}")


def integer(name: str, value: Any, minimum: int | None = None) -> int:
    """Return `value` as an int, or raise if it is none or lies below `minimum`."""
    # The type alone decides nearly always, and asking an abstract class takes longer.
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, numbers.Integral)):
        raise bad_type(name, value, "must be an integer")
    if minimum is not None and value < minimum:
        raise bad_value(name, int(value), f"must be >= {minimum}")
    return int(value)


def real(
    name: str,
    value: Any,
    minimum: float | None = None,
    maximum: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """Return `value` as a finite float within `minimum <= value <= maximum`, `above < value < below`."""
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
        raise bad_type(name, value, "must be a real number")
    number = float(value)
    if not math.isfinite(number):
        raise bad_value(name, number, "must be finite")
    if minimum is not None and number < minimum:
        raise bad_value(name, number, f"must be >= {minimum:g}")
    if maximum is not None and number > maximum:
        raise bad_value(name, number, f"must be <= {maximum:g}")
    if above is not None and number <= above:
        raise bad_value(name, number, f"must be > {above:g}")
    if below is not None and number >= below:
        raise bad_value(name, number, f"must be < {below:g}")
    return number


def one_of(name: str, value: Any, allowed: Collection[Any]) -> Any:
    """Return `value` if it is one of `allowed`."""
    if value not in allowed:
        raise bad_value(name, value, "must be one of " + ", ".join(map(repr, allowed)))
    return value


def pair(name: str, value: Any, minimum: int = 0) -> tuple[int, int]:
    """Return `value`, an int or two ints (height, width), as two ints >= `minimum`."""
    if type(value) is not tuple and isinstance(value, numbers.Integral):
        value = (value, value)
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise bad_type(name, value, "must be an integer or a pair (height, width)")
    return integer(name, value[0], minimum), integer(name, value[1], minimum)


def file(name: str, value: str) -> None:
    """Raise if there is no such file."""
    if not Path(value).is_file():
        raise bad_value(name, value, "must be a file")
