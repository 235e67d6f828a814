"""Images that take long to read or to draw are kept on disk."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import PIL
import torch
from torch import Tensor


def cached(name: str, key: object, make: Callable[[], Tensor]) -> Tensor:
    """Return what `make` returns, which is called only once for a key.

    The tensors are kept in $XDG_CACHE_HOME/pml_synthesis (by default ~/.cache/pml_synthesis),
    which may be deleted at any time. Where nothing can be written, they are made every time.

    Arguments:
        name: the beginning of the file's name.
        key: all that the result depends on; its repr tells one from another. The versions of
            torch and Pillow are added to it, and the code of the datasets.
        make: makes the tensor.

    Example:
        >>> cached("squares", 3, lambda: torch.arange(3) ** 2)  # doctest: +SKIP
        tensor([0, 1, 4])
    """
    if (folder := _folder()) is None:
        return make()
    text = repr((key, torch.__version__, PIL.__version__, _code()))
    path = folder / f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
    # A damaged file is made anew.
    with suppress(Exception), np.load(path, allow_pickle=False) as file:
        return torch.from_numpy(file["tensor"])
    made = make()
    with suppress(OSError):
        _write(path, made)
    return made


def _folder() -> Path | None:
    """Return where images are kept; None for a user without a home, as in some containers."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "pml_synthesis"
    except RuntimeError:
        return None


def _code() -> str:
    """Return what changes when the code does that reads and draws images."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _write(path: Path, tensor: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of several processes that write at once each has a file of its own, until it is whole.
    with NamedTemporaryFile(dir=path.parent, suffix=".unfinished", delete=False) as file:
        try:
            np.savez_compressed(file, tensor=tensor.numpy())
            file.close()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
