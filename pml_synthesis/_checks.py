"""Checks of arguments: raised where the wrong value is given, naming the argument and what it got."""

import math
from numbers import Integral, Real
from typing import Any


def expect(valid: bool, argument: str, expected: str, got: Any) -> None:
    """Raise a ValueError that names the argument, what was expected and what came, unless valid."""
    if not valid:
        raise ValueError(f"Expected argument `{argument}` to be {expected}, but got {got!r}.")


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite real number (True and False are none)."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def is_integer(value: Any) -> bool:
    """Tell whether a value is an integer (True and False are none)."""
    return isinstance(value, Integral) and not isinstance(value, bool)
