"""Data sets that are downloaded apart, for tests that are skipped without them."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest


def real_set(variable: str, folder: str, needed: str, parts: Iterable[str] = ()) -> Path:
    """Return the folder of a set, or skip the test.

    Arguments:
        variable: the environment variable that names the folder.
        folder: its name in shared/data beside the checkout, where it is by default.
        needed: what the set is called, for those who lack it.
        parts: what is in it, each a folder or a zip archive.
    """
    root = Path(os.environ.get(variable, Path(__file__).parents[2] / "shared" / "data" / folder))
    there = all((root / part).is_dir() or (root / f"{part}.zip").is_file() for part in parts)
    if not (root.exists() and there):
        pytest.skip(f"needs {needed}, set {variable} to its folder")
    return root
