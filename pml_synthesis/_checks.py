"""Checks of arguments, made where they are given."""

import math
from numbers import Integral, Real
from typing import Any

import torch


def expect(valid: bool, argument: str, expected: str, got: Any) -> None:
    """Raise a ValueError that names the argument, what was expected and what came, unless valid."""
    if not valid:
        # A module spells itself out over many lines.
        got = type(got).__name__ if isinstance(got, torch.nn.Module) else repr(got)
        raise ValueError(f"Expected argument `{argument}` to be {expected}, but got {got}.")


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite real number, as a float (True and False are none)."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_integer(value: Any) -> bool:
    """Tell whether a value is an integer (True and False are none)."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def expect_tensor(argument: str, got: Any) -> None:
    """Raise a ValueError that names the argument, unless it is a tensor."""
    expect(isinstance(got, torch.Tensor), argument, "a tensor", got)


def is_integer_dtype(dtype: torch.dtype) -> bool:
    """Tell whether tensors of a dtype hold integers (booleans are none)."""
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)
