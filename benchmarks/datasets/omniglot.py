"""Omniglot: handwritten characters (Lake et al., Science 2015), read from the authors' archives."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from benchmarks.datasets.cache import cached
from benchmarks.datasets.checks import checked_root
from benchmarks.datasets.file_tree import FileTree
from benchmarks.datasets.image_classes import ImageClasses, check_split
from benchmarks.datasets.squares import Inverted, Squares
from benchmarks.datasets.transforms import Normalize
from pml_synthesis._checks import expect

# The parts that train and test each subset, and the number of characters in each part.
SUBSETS = {
    "small": ("images_background_small1", "images_background_small2"),
    "full": ("images_background", "images_evaluation"),
}
CHARACTERS = {
    "images_background_small1": 136,
    "images_background_small2": 156,
    "images_background": 964,
    "images_evaluation": 659,
}
DRAWINGS = 20  # of each character, one by each writer
DRAWN = (105, 105)  # pixels of a drawing
SIZE = 28  # pixels of an image
SOURCE = "https://github.com/brendenlake/omniglot (folder python)"


class Omniglot(ImageClasses):
    """Characters as classes, 20 drawings of each: float [N, 1, 28, 28], ink high.

    The subset "small" trains on the 136 characters of images_background_small1 and tests on the
    106 characters of the alphabets that only images_background_small2 has. The subset "full"
    trains on images_background (964 characters) and tests on images_evaluation (659), the parts
    that torchvision unpacks into omniglot-py. Each part is the authors' zip archive, read as it
    is, or a folder with the same content. Drawings are reduced to 28 x 28 and normalised:
    (ink - 0.08) / 0.25. They are read once and then kept in a cache on disk.

    Arguments:
        root: the folder that holds the two parts of a subset.
        split: "train", "val", "trainval" (both together) or "test".
        validation: alphabets that leave the training split for the validation split.
        transform: applied to each batch of images, see ImageClasses.
        subset: "small" or "full"; needed only where root holds both.

    Raises:
        FileNotFoundError: if a part is missing, damaged or incomplete.
        OSError: if a drawing cannot be read, or has not 105 x 105 pixels.
        ValueError: if there is no such split, subset or alphabet, if the split is left without
            characters, or if root holds both subsets and none is named.

    Example:
        >>> train = Omniglot("data/omniglot", "train", validation=["Korean"])  # doctest: +SKIP
        >>> train.class_names[0]  # doctest: +SKIP
        'Balinese/character01'
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        validation: Sequence[str] = (),
        transform: Callable[[Tensor], Tensor] | None = None,
        subset: str | None = None,
    ) -> None:
        check_split(split)
        folder = checked_root(root)
        training, test = (_Part(folder, name) for name in _find_parts(folder, subset))
        alphabets = training.alphabets
        _check_validation(validation, alphabets)
        part, keep = {
            "train": (training, alphabets.difference(validation)),
            "val": (training, alphabets.intersection(validation)),
            "trainval": (training, alphabets),
            "test": (test, test.alphabets - alphabets),
        }[split]
        characters = [name for name in sorted(part.drawings) if _alphabet(name) in keep]
        some = f"some of {sorted(alphabets)}, to leave characters for the split {split!r}"
        expect(bool(characters), "validation", some, list(validation))
        labels = torch.arange(len(characters)).repeat_interleave(DRAWINGS)
        super().__init__((part.ink(characters) - 0.08) / 0.25, labels, characters, transform)

    @staticmethod
    def preparation() -> list[Callable[[Any], Any]]:
        """Return how a picture of dark ink on light paper is read, see ImageClasses."""
        return [_reduced, Inverted(), Normalize([0.08], [0.25])]


class _Part:
    """A zip archive, or folder, with files `<name>/<alphabet>/<character>/<drawing>.png`.

    `drawings` lists the files of each `<alphabet>/<character>`.
    """

    def __init__(self, root: Path, name: str) -> None:
        unpacked = (root / name).is_dir()
        self.files = FileTree(root if unpacked else root / f"{name}.zip", SOURCE, f"{name}/")
        self.drawings: dict[str, list[str]] = defaultdict(list)
        for file in self.files.names:
            if match := re.fullmatch(r"([^/]+/[^/]+)/[^/]+\.png", file):
                self.drawings[match[1]].append(file)
        complete = sum(len(files) == DRAWINGS for files in self.drawings.values())
        if not complete == len(self.drawings) == CHARACTERS[name]:
            raise FileNotFoundError(
                f"Expected {CHARACTERS[name]} characters with {DRAWINGS} drawings each in {name} "
                f"in {root} but found {complete}, and {len(self.drawings) - complete} with another "
                f"number of drawings. Get it again from {SOURCE}."
            )

    @property
    def alphabets(self) -> set[str]:
        return {_alphabet(character) for character in self.drawings}

    def ink(self, characters: Sequence[str]) -> Tensor:
        """The ink of characters, float [len(characters) * DRAWINGS, 1, SIZE, SIZE] in [0, 1]."""
        files = [file for name in self.drawings for file in self.drawings[name]]
        # Of all characters at once: one file in the cache serves every choice of alphabets.
        ink = cached("omniglot", self.files.stamp(files), lambda: self._read(files))
        places = {name: i for i, name in enumerate(self.drawings)}
        rows = torch.tensor([places[name] for name in characters])
        return ink.unflatten(0, (-1, DRAWINGS))[rows].flatten(0, 1)

    def _read(self, files: Sequence[str]) -> Tensor:
        ink = torch.empty(len(files), 1, SIZE, SIZE)
        for row, file in zip(ink, files, strict=True):
            picture = self.files.picture(file, "L")
            if picture.size != DRAWN:
                raise OSError(
                    f"{self.files.where(file)}: expected a drawing of {DRAWN[0]} x {DRAWN[1]} "
                    f"pixels but got {picture.size[0]} x {picture.size[1]}. Get it again from "
                    f"{SOURCE}."
                )
            row[:] = 1 - _reduced([picture])[0]
        return ink


def _reduced(pictures: Sequence[Image.Image]) -> Tensor:
    """Return the brightness of pictures, the square in their middle, [B, 1, SIZE, SIZE]."""
    squares = [Squares(min(picture.size), grey=True)([picture]) for picture in pictures]
    return torch.cat([F.interpolate(square, SIZE, mode="area") for square in squares])


def _alphabet(character: str) -> str:
    return character.split("/")[0]


def _find_parts(root: Path, subset: str | None) -> tuple[str, str]:
    expect(subset in (None, *SUBSETS), "subset", f"one of {tuple(SUBSETS)}", subset)
    wanted = SUBSETS if subset is None else {subset: SUBSETS[subset]}
    missing = {
        name: [part for part in parts if not _is_there(root, part)]
        for name, parts in wanted.items()
    }
    found = [name for name in wanted if not missing[name]]
    expect(len(found) < 2, "subset", f"one of {found}, for {root} holds both", None)
    if not found:
        lists = "; or ".join(f"{', '.join(parts)} ({name})" for name, parts in missing.items())
        raise FileNotFoundError(
            f"Expected the parts of Omniglot in {root}, each a folder or a zip archive, but these "
            f"are missing: {lists}. Get the zip archives from {SOURCE} and put them there."
        )
    return SUBSETS[found[0]]


def _is_there(root: Path, part: str) -> bool:
    return (root / part).is_dir() or (root / f"{part}.zip").is_file()


def _check_validation(validation: Sequence[str], alphabets: set[str]) -> None:
    known = f"a list of training alphabets, out of {sorted(alphabets)}"
    expect(alphabets.issuperset(validation), "validation", known, validation)
