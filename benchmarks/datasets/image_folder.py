"""Images of the user's own, in a folder for each class."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.datasets.checks import checked_root
from benchmarks.datasets.class_folders import images_of_classes
from benchmarks.datasets.class_splits import Classes, split_classes
from benchmarks.datasets.image_classes import ImageClasses, check_split
from benchmarks.datasets.image_files import read_picture
from benchmarks.datasets.squares import Squares
from benchmarks.datasets.unreadable import UnreadableImagesError
from pml_synthesis._checks import expect_flag, expect_integer


class ImageFolder(ImageClasses):
    """Pictures in `root/<class>/`, at any depth: float [N, 3 or 1, size, size] in [0, 1].

    Classes are split, never the images of a class. Of each picture the largest square in its
    middle is taken and resized. Transparent parts become white, and 16 bits are scaled to 8 (see
    read_picture). All images are held in memory. Warnings count and name what is left out: files
    whose format is not read or that are in no class, and links to folders inside of a class or to
    those of another one; and the classes of one image.

    Arguments:
        root: the folder that holds a folder for each class.
        split: "train", "val", "trainval" (both together) or "test".
        validation: the classes that leave the training split for the validation split: a list of
            names, or a fraction of all classes, drawn by `seed`.
        test: the classes of the test split, given alike.
        size: height and width, in pixels.
        grey: whether to read one channel of brightness in the place of red, green and blue.
        seed: decides which classes a fraction means.
        transform: applied to each batch of images, see ImageClasses.

    Raises:
        FileNotFoundError: if there is no such folder, no class in it, or no image in a class.
        OSError: if folders or images cannot be read (UnreadableImagesError); all of them are
            counted, and the first are named.
        ValueError: if the folders are those of splits, there is no such split or class, a fraction
            is not in [0, 1), a class is in both lists, or the split is left without classes.

    Example:
        >>> ImageFolder("pets", "test", test=["cat", "dog"]).class_names  # doctest: +SKIP
        ('cat', 'dog')
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        validation: Classes = 0.2,
        test: Classes = 0.3,
        size: int = 64,
        grey: bool = False,
        seed: int = 0,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        check_split(split)
        expect_integer("size", size)
        expect_flag("grey", grey)
        files = images_of_classes(checked_root(root))
        names = split_classes(list(files), split, validation, test, seed)
        there = [file for name in names for file in files[name]]
        images = _read_all(there, size, grey)
        labels = torch.arange(len(names)).repeat_interleave(
            torch.tensor([len(files[name]) for name in names])
        )
        super().__init__(images, labels, names, transform, there)

    @staticmethod
    def preparation(size: int = 64, grey: bool = False) -> list[Callable[[Any], Any]]:
        """Return how a picture is read, see ImageClasses."""
        return [Squares(size, grey)]


def _read_all(files: Sequence[Path], size: int, grey: bool) -> Tensor:
    # Filled in place: to stack a list would need the memory twice.
    images = torch.empty(len(files), 1 if grey else 3, size, size)
    failures = []
    squares = Squares(size, grey)
    for image, file in zip(images, files, strict=True):
        try:
            picture = read_picture(file, "L" if grey else "RGB")
        except OSError as error:
            failures.append(error)
        else:
            image[:] = squares([picture])[0]
    if failures:
        raise UnreadableImagesError([str(error) for error in failures], len(files)) from failures[0]
    return images
