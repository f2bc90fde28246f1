"""Argument checks name the argument, the value and the rule."""

import numpy as np
import pytest

from distdl.core import checks
from distdl.core.errors import ArgumentError, ArgumentTypeError


def test_a_message_names_argument_value_and_rule():
    """The form of every message."""
    assert str(checks.bad_value("lr", -1.0, "must be >= 0")) == "`lr` (=-1.0) must be >= 0"
    assert str(checks.bad_type("lr", "x", "must be a number")) == "`lr` (='x', str) must be a number"


@pytest.mark.parametrize("value", [0, np.int32(3), np.uint8(7)])
def test_integer_takes_integers_of_every_kind(value):
    """NumPy's integers become Python's."""
    assert checks.integer("n", value) == value
    assert type(checks.integer("n", value)) is int


@pytest.mark.parametrize("value", [True, 1.0, "1", None, np.float32(2)])
def test_integer_refuses_what_is_none(value):
    """Booleans, floats and text are no integers."""
    with pytest.raises(ArgumentTypeError, match=r"`n` .*must be an integer"):
        checks.integer("n", value)


def test_integer_refuses_values_below_the_minimum():
    """The minimum itself is allowed."""
    assert checks.integer("n", 2, 2) == 2
    with pytest.raises(ArgumentError, match=r"`n` \(=1\) must be >= 2"):
        checks.integer("n", 1, 2)


@pytest.mark.parametrize(
    ("value", "bounds", "rule"),
    [
        (float("nan"), {}, "finite"),
        (float("inf"), {}, "finite"),
        (-0.1, {"minimum": 0}, ">= 0"),
        (1.1, {"maximum": 1}, "<= 1"),
        (0, {"above": 0}, "> 0"),
        (1, {"below": 1}, "< 1"),
    ],
)
def test_real_refuses_values_out_of_bounds(value, bounds, rule):
    """NaN, infinity and each kind of bound."""
    with pytest.raises(ArgumentError, match=f"`x` .*must be {rule}"):
        checks.real("x", value, **bounds)


@pytest.mark.parametrize("value", [True, "1", None, 1j])
def test_real_refuses_what_is_no_number(value):
    """Booleans and text are no real numbers."""
    with pytest.raises(ArgumentTypeError, match="real number"):
        checks.real("x", value)


def test_real_returns_a_float():
    """Integers and NumPy's floats become Python's floats; closed bounds are allowed."""
    assert type(checks.real("x", np.float32(1), 1, 1)) is float
    assert checks.real("x", 1, above=0, below=2) == 1.0


def test_one_of_lists_what_is_allowed():
    """The message holds the choices."""
    assert checks.one_of("mode", "a", ("a", "b")) == "a"
    with pytest.raises(ArgumentError, match="one of 'a', 'b'"):
        checks.one_of("mode", "c", ("a", "b"))


def test_pair_takes_one_number_or_two():
    """An integer counts for height and width."""
    assert checks.pair("size", 3) == (3, 3)
    assert checks.pair("size", [1, 2]) == (1, 2)
    with pytest.raises(ArgumentTypeError, match="pair"):
        checks.pair("size", (1, 2, 3))
    with pytest.raises(ArgumentError, match="must be >= 1"):
        checks.pair("size", (0, 1), 1)


def test_file_refuses_what_is_none(tmp_path):
    """A directory is none, either."""
    checks.file("script", __file__)
    for path in (tmp_path, tmp_path / "gone.py"):
        with pytest.raises(ArgumentError, match=f"`script` \\(='{path}'\\) must be a file"):
            checks.file("script", str(path))
