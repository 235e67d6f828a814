"""Files that are whole or not there, whenever the process dies."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of the file only when all was written."""
    unfinished = path.with_name(path.name + ".unfinished")
    yield unfinished
    os.replace(unfinished, path)


def save(state: dict[str, Any], path: Path) -> None:
    """Save tensors and plain values."""
    with atomic_write(path) as unfinished, unfinished.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # Of a full disk torch says that it was at another place of the file than it thought.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load(path: Path) -> dict[str, Any]:
    """Return what was saved, on the CPU; nothing in the file is executed."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
