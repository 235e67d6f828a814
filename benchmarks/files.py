"""Files that are whole or not there, whenever the process dies."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import torch

UNFINISHED = ".unfinished"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of the file only when all was written.

    Others may write the same file at the same time, as two reports do: the last one stays.
    """
    unfinished = _own_name(path)
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: Path, untouched_for: float = 0) -> None:
    """Remove what processes that were killed in the middle of writing left in a folder.

    Arguments:
        folder: where they wrote.
        untouched_for: seconds since their last write; without it nobody else may be writing there.
    """
    for path in folder.glob(f"*{UNFINISHED}"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= untouched_for:
                path.unlink()


def _own_name(path: Path) -> Path:
    # Random: processes of two machines, or containers, may have the same number.
    return path.with_name(f"{path.name}.{uuid4().hex[:8]}{UNFINISHED}")


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


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV file."""
    with atomic_write(path) as unfinished:
        # It may name a file whose name is no text.
        table.to_csv(unfinished, index=False, errors="backslashreplace")


def write_text(text: str, path: Path) -> None:
    """Write a text file."""
    with atomic_write(path) as unfinished:
        # A message may name a file whose name is no text.
        unfinished.write_text(text, errors="backslashreplace")
