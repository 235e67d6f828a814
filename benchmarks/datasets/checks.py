"""Arguments that many datasets have, checked where they are given."""

import os
from pathlib import Path
from typing import Any

from pml_synthesis._checks import expect, is_integer


def checked_root(root: Any) -> Path:
    """Return the folder of a set, with ~ as the home of the user.

    Raises:
        ValueError: if it is no path, such as a name that YAML takes for a number.
    """
    is_path = isinstance(root, str | os.PathLike) and bool(os.fspath(root))
    expect(is_path, "root", "the path of a folder, in quotes if it is a number", root)
    return Path(root).expanduser()


def check_positive(name: str, value: Any) -> None:
    """Raise a ValueError unless an argument is a positive integer."""
    expect(is_integer(value) and value >= 1, name, "a positive integer", value)


def check_flag(name: str, value: Any) -> None:
    """Raise a ValueError unless an argument is true or false: "no" would count as true."""
    expect(isinstance(value, bool), name, "true or false", value)
