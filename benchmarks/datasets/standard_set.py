"""The published image sets that methods are compared on: what they have in common."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from benchmarks.datasets.checks import checked_root
from benchmarks.datasets.image_classes import ImageClasses
from benchmarks.datasets.image_files import ImageFiles
from pml_synthesis._checks import expect


class Size(NamedTuple):
    """How much there is of a part of a set."""

    images: int
    classes: int


class StandardSet(ImageClasses):
    """A published set: pictures on disk, read a batch at a time, in the standard split by class.

    Classes are numbered from 0, in the order of the published numbers. Validation classes are
    neighbours in that order, as the classes that test are; the papers hold none out.

    Arguments:
        root: the folder that holds the set as it is unpacked.
        split: "train", "val", "trainval" (both together), or a part that tests.
        validation: how many training classes are held out for validation, or, below 1, which
            fraction of them.
        fold: which ones: the first so many for 0, the next ones for 1, and so on.
        partial: whether to take what is there of a set that is not whole.
        download: whether to get the set where root is empty or not there.
        transform: makes a batch out of a list of pictures, see ImageClasses.

    Raises:
        FileNotFoundError: if the set is not there or not whole.
        ValueError: if there is no such split, validation is negative, or fold or validation leaves
            no classes for the split.
    """

    #: How much there is of each part: "train" and those that test.
    sizes: ClassVar[Mapping[str, Size]]
    #: Parts that share their classes.
    together: ClassVar[tuple[str, ...]] = ()
    #: Where to get the set.
    source: ClassVar[str]

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        validation: float = 0,
        fold: int = 0,
        partial: bool = False,
        download: bool = False,
        transform: Callable[[Any], Tensor] | None = None,
    ) -> None:
        splits = ("train", "val", "trainval", *(part for part in self.sizes if part != "train"))
        expect(split in splits, "split", f"one of {splits}", split)
        part = split if split in self.sizes else "train"
        parts = self.together if part in self.together else (part,)
        folder = checked_root(root)
        files = {name: self._files(folder, name, partial, download) for name in parts}
        names = list(files[part])
        if part == "train":
            names = _chosen(names, split, validation, fold)
        names = [name for name in names if all(name in files[other] for other in parts)]
        counts = torch.tensor([len(files[part][name]) for name in names])
        labels = torch.arange(len(names)).repeat_interleave(counts)
        paths = [path for name in names for path in files[part][name]]
        super().__init__(ImageFiles(paths), labels, names, transform)

    @staticmethod
    def preparation() -> list[Callable[[Any], Any]]:
        """Return no steps: transforms are given the pictures, see ImageClasses."""
        return []

    @staticmethod
    def listed(root: Path, part: str, download: bool) -> Mapping[str, list[Path]]:
        """Return the files of each class of a part, in the order of the published numbers.

        Raises:
            OSError, ValueError, LookupError: if a list cannot be read; the message says why.
        """
        raise NotImplementedError

    def _files(
        self, root: Path, part: str, partial: bool, download: bool
    ) -> Mapping[str, list[Path]]:
        name = type(self).__name__
        advice = f"Get it from {self.source}"
        try:
            listed = self.listed(root, part, download)
        except (OSError, ValueError, LookupError) as error:
            raise FileNotFoundError(f"{name} is not in {root}: {error} {advice}.") from error
        there = {key: [path for path in paths if path.exists()] for key, paths in listed.items()}
        there = {key: paths for key, paths in there.items() if paths}
        found = Size(sum(map(len, there.values())), len(there))
        if not there or not (partial or found == self.sizes[part]):
            missing = [path for paths in listed.values() for path in paths if not path.exists()]
            lost = (
                f"; {len(missing)} are listed but missing, such as {missing[0]}" if missing else ""
            )
            raise FileNotFoundError(
                f"Expected {self.sizes[part].images} images of {self.sizes[part].classes} classes "
                f"in the part {part!r} of {name} in {root}, but found {found.images} of "
                f"{found.classes}{lost}. {advice}, or take what is there with partial=True."
            )
        return there


def _chosen(names: list[str], split: str, validation: float, fold: int) -> list[str]:
    expect(validation >= 0, "validation", "at least 0", validation)
    width = validation * len(names) if validation < 1 else validation
    start, end = round(fold * width), round((fold + 1) * width)
    within = (
        f"at least 0, and so many times `validation` ({validation}) and once more among the "
        f"{len(names)} training classes"
    )
    expect(fold >= 0 and end <= len(names), "fold", within, fold)
    held_out = names[start:end]
    chosen = {
        "train": [name for name in names if name not in set(held_out)],
        "val": held_out,
        "trainval": names,
    }[split]
    if not chosen:
        raise ValueError(
            f"Expected argument `validation` to leave classes for the split {split!r}, out of "
            f"{len(names)}, but got {validation}."
        )
    return chosen
