"""Checks of arguments, made where they are given."""

import math
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor


def expect(valid: bool, argument: str, expected: str, got: Any) -> None:
    """Raise a ValueError that names the argument, what was expected and what came, unless valid."""
    if not valid:
        raise ValueError(f"Expected argument `{argument}` to be {expected}, but got {_short(got)}.")


def _short(value: Any) -> str:
    """Return a value as text, or its type where that would fill many lines."""
    text = type(value).__name__ if isinstance(value, torch.nn.Module) else repr(value)
    return text if len(text) <= 200 else f"an object of type {type(value).__name__}"


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


def expect_integer(argument: str, got: Any, least: int = 1) -> None:
    """Raise a ValueError that names the argument, unless it is an integer that is large enough."""
    valid = is_integer(got) and got >= least
    expect(valid, argument, f"an integer of at least {least}", got)


def expect_flag(argument: str, got: Any) -> None:
    """Raise a ValueError that names the argument, unless it is True or False."""
    expect(isinstance(got, bool), argument, "True or False", got)


def expect_tensor(argument: str, got: Any) -> None:
    """Raise a ValueError that names the argument, unless it is a tensor."""
    if not isinstance(got, torch.Tensor):
        given = "None" if got is None else f"an object of type {type(got).__name__}"
        raise ValueError(f"Expected argument `{argument}` to be a tensor, but got {given}.")


def expect_between(argument: str, got: Tensor, low: int, high: int) -> None:
    """Raise a ValueError unless all numbers of a tensor are from `low` to `high` - 1.

    On an accelerator nothing is checked: to read the numbers would wait for it.
    """
    if got.device.type == "cpu" and len(got):
        least, most = smallest_and_largest(got)
        found = f"{least} to {most}"
        expect(low <= least and most < high, argument, f"from {low} to {high - 1}", found)


def smallest_and_largest(numbers: Tensor) -> tuple[int, int]:
    """Return the ends of the range of integers, of which there is one at least."""
    least, most = numbers.aminmax()
    return int(least), int(most)


def is_integer_dtype(dtype: torch.dtype) -> bool:
    """Tell whether tensors of a dtype hold integers (booleans are none)."""
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


def check_batch(embeddings: Tensor, labels: Tensor | None, proxies: Tensor | None) -> Tensor:
    """Return the labels on the host, int64.

    Raises:
        ValueError: unless these are embeddings [B, D], integer labels [B] and proxies [C, D] or
            [C, K, D] with one for each label, or none.
    """
    expect_tensor("embeddings", embeddings)
    shape = tuple(embeddings.shape)
    expect(len(shape) == 2, "embeddings", "of shape [B, D]", shape)
    expect(shape[1] > 0, "embeddings", "of shape [B, D] with a D of 1 at least", shape)
    expect(embeddings.is_floating_point(), "embeddings", "floating point", embeddings.dtype)

    expect_tensor("labels", labels)
    assert labels is not None
    expect(labels.shape == shape[:1], "labels", f"of shape [{shape[0]}]", tuple(labels.shape))
    expect(is_integer_dtype(labels.dtype), "labels", "integers", labels.dtype)
    host_labels = labels.to("cpu", torch.int64)
    if proxies is None:
        return host_labels

    expect_tensor("proxies", proxies)
    form = (
        f"of shape [C, {shape[1]}] or [C, K, {shape[1]}], as wide as the embeddings (those "
        "of a loss taught by register_proxies: see its `class_dim`)"
    )
    fits = proxies.ndim in (2, 3) and proxies.shape[-1] == shape[1]
    expect(fits, "proxies", form, tuple(proxies.shape))
    expect(proxies.is_floating_point(), "proxies", "floating point", proxies.dtype)
    if len(labels):
        low, high = smallest_and_largest(host_labels)
        inside = low >= 0 and high < len(proxies)
        found = f"labels from {low} to {high}"
        expect(inside, "labels", f"from 0 to {len(proxies) - 1}, one per proxy", found)
    return host_labels
