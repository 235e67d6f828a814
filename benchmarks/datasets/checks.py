"""Arguments that many datasets have, checked where they are given."""

import os
from numbers import Integral
from pathlib import Path
from typing import Any


def checked_root(root: Any) -> Path:
    """Return the folder of a set, with ~ as the home of the user.

    Raises:
        ValueError: if it is no path, such as a name that YAML takes for a number.
    """
    if not isinstance(root, str | os.PathLike) or not os.fspath(root):
        raise ValueError(
            "Expected argument `root` to be the path of a folder, in quotes if it is a number, but "
            f"got {root!r}."
        )
    return Path(root).expanduser()


def check_positive(name: str, value: Any) -> None:
    """Raise a ValueError unless an argument is a positive integer."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"Expected argument `{name}` to be a positive integer but got {value!r}.")


def check_flag(name: str, value: Any) -> None:
    """Raise a ValueError unless an argument is true or false: "no" would count as true."""
    if not isinstance(value, bool):
        raise ValueError(f"Expected argument `{name}` to be true or false but got {value!r}.")
