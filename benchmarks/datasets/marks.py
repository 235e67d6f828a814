"""What tells the images of one dataset from those of another."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.datasets.image_files import ImageFiles

Mark = dict[str, int | str]


def mark(images: Tensor | ImageFiles, labels: Tensor, class_names: Sequence[str]) -> Mark:
    """Return how many classes and images there are, and digests of them, in their order.

    Of images in memory the pixels count, of files their names and sizes, wherever they are.

    Example:
        >>> images, labels = torch.zeros(3, 1, 8, 8), torch.tensor([0, 0, 1])
        >>> mark(images, labels, ["a", "b"]) == mark(images, labels, ["a", "c"])
        False
    """
    return {
        "classes": len(class_names),
        "images": len(images),
        "names": _digest(repr(name).encode() for name in class_names),
        "labels": _digest([repr(labels.tolist()).encode()]),
        "contents": _digest(_contents(images)),
    }


def _contents(images: Tensor | ImageFiles) -> Iterator[bytes]:
    if isinstance(images, Tensor):
        for image in images:  # One at a time: a copy of all of them might not fit.
            yield image.cpu().contiguous().view(torch.uint8).numpy().tobytes()
    else:
        for path in map(Path, images.paths):
            yield repr((path.name, path.stat().st_size)).encode()


def _digest(parts: Iterable[bytes]) -> str:
    hashed = hashlib.blake2b(digest_size=8)
    for part in parts:
        hashed.update(part)
    return hashed.hexdigest()
