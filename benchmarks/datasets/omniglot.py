"""Omniglot: handwritten characters (Lake et al., Science 2015), read from the authors' archives."""

import io
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from benchmarks.datasets.image_classes import ImageClasses, check_split

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
SIZE = 28  # pixels
SOURCE = "https://github.com/brendenlake/omniglot (folder python)"


class Omniglot(ImageClasses):
    """Characters as classes, 20 drawings of each: float [N, 1, 28, 28], ink high.

    The subset "small" trains on the 136 characters of images_background_small1 and tests on the
    106 characters of the alphabets that only images_background_small2 has. The subset "full"
    trains on images_background (964 characters) and tests on images_evaluation (659), the parts
    that torchvision unpacks into omniglot-py. Each part is the authors' zip archive, read as it
    is, or a folder with the same content. Drawings are reduced to 28 x 28 and normalised:
    (ink - 0.08) / 0.25.

    Arguments:
        root: the folder that holds the two parts of a subset.
        split: "train", "val", "trainval" (both together) or "test".
        validation: alphabets that leave the training split for the validation split.
        transform: applied to each batch of images, see ImageClasses.
        subset: "small" or "full"; needed only where root holds both.

    Raises:
        FileNotFoundError: if a part is missing, damaged or incomplete.
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
        training, test = (_Part(Path(root), name) for name in _find_parts(Path(root), subset))
        alphabets = training.alphabets
        _check_validation(validation, alphabets)
        part, keep = {
            "train": (training, alphabets.difference(validation)),
            "val": (training, alphabets.intersection(validation)),
            "trainval": (training, alphabets),
            "test": (test, test.alphabets - alphabets),
        }[split]
        characters = [name for name in sorted(part.drawings) if _alphabet(name) in keep]
        if not characters:
            raise ValueError(
                f"Expected argument `validation` to leave characters for the split {split!r}, so "
                f"to be some of the training alphabets {sorted(alphabets)}, but got "
                f"{list(validation)}."
            )
        labels = torch.arange(len(characters)).repeat_interleave(DRAWINGS)
        ink = part.read([file for name in characters for file in part.drawings[name]])
        super().__init__((ink - 0.08) / 0.25, labels, characters, transform)


class _Part:
    """A zip archive, or folder, with files `<name>/<alphabet>/<character>/<drawing>.png`.

    `drawings` lists the files of each `<alphabet>/<character>`.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.archive = None if (root / name).is_dir() else _open_archive(root / f"{name}.zip")
        if self.archive is None:
            files = [path.relative_to(root).as_posix() for path in root.glob(f"{name}/*/*/*.png")]
        else:
            files = self.archive.namelist()
        self.drawings: dict[str, list[str]] = defaultdict(list)
        for file in sorted(files):
            if match := re.fullmatch(rf"{name}/([^/]+/[^/]+)/[^/]+\.png", file):
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

    def read(self, files: Sequence[str]) -> Tensor:
        """The ink of drawings, float [N, 1, SIZE, SIZE] in [0, 1]."""
        ink = torch.empty(len(files), 1, SIZE, SIZE)
        for row, file in zip(ink, files, strict=True):
            if self.archive is None:
                content = (self.root / file).read_bytes()
            else:
                content = self.archive.read(file)
            paper = np.array(Image.open(io.BytesIO(content)), dtype=np.float32)
            row[0] = 1 - F.interpolate(torch.from_numpy(paper)[None, None], SIZE, mode="area")[0, 0]
        return ink


def _alphabet(character: str) -> str:
    return character.split("/")[0]


def _find_parts(root: Path, subset: str | None) -> tuple[str, str]:
    if subset is not None and subset not in SUBSETS:
        raise ValueError(
            f"Expected argument `subset` to be one of {tuple(SUBSETS)} but got {subset!r}."
        )
    wanted = SUBSETS if subset is None else {subset: SUBSETS[subset]}
    missing = {
        name: [part for part in parts if not _is_there(root, part)]
        for name, parts in wanted.items()
    }
    found = [name for name in wanted if not missing[name]]
    if len(found) > 1:
        raise ValueError(
            f"Expected argument `subset` to be one of {found}, for {root} holds both, but got None."
        )
    if not found:
        lists = "; or ".join(f"{', '.join(parts)} ({name})" for name, parts in missing.items())
        raise FileNotFoundError(
            f"Expected the parts of Omniglot in {root}, each a folder or a zip archive, but these "
            f"are missing: {lists}. Get the zip archives from {SOURCE} and put them there."
        )
    return SUBSETS[found[0]]


def _is_there(root: Path, part: str) -> bool:
    return (root / part).is_dir() or (root / f"{part}.zip").is_file()


def _open_archive(path: Path) -> ZipFile:
    try:
        return ZipFile(path)
    except BadZipFile as error:
        raise FileNotFoundError(
            f"Expected a zip archive in {path} but it is damaged ({error}). "
            f"Get it again from {SOURCE}."
        ) from error


def _check_validation(validation: Sequence[str], alphabets: set[str]) -> None:
    if not alphabets.issuperset(validation):
        raise ValueError(
            "Expected argument `validation` to be a list of training alphabets, out of "
            f"{sorted(alphabets)}, but got {validation!r}."
        )
