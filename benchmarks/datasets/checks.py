"""Arguments that many datasets have, checked where they are given."""

import os
from pathlib import Path
from typing import Any

from pml_synthesis._checks import expect


def checked_root(root: Any) -> Path:
    """Return the folder of a set, with ~ as the home of the user.

    Raises:
        ValueError: if it is no path, such as a name that YAML takes for a number.
    """
    is_path = isinstance(root, str | os.PathLike) and bool(os.fspath(root))
    expect(is_path, "root", "the path of a folder, in quotes if it is a number", root)
    return Path(root).expanduser()
