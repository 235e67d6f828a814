"""GroceryStore: photographs of fruit, vegetables and packages, taken in shops."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from benchmarks.datasets.cache import cached
from benchmarks.datasets.checks import checked_root
from benchmarks.datasets.class_splits import split_classes
from benchmarks.datasets.file_tree import FileTree, find_tree
from benchmarks.datasets.image_classes import ImageClasses, check_split
from benchmarks.datasets.squares import Squares
from pml_synthesis._checks import expect_integer

PARTS = ("train", "val", "test")  # the repository's own split, of images
IMAGES, CLASSES = 5421, 81
SOURCE = "https://github.com/marcusklasson/GroceryStoreDataset"


class GroceryStore(ImageClasses):
    """Groceries as classes, 35 to 143 photographs of each: float [N, 3, size, size] in [0, 1].

    The 81 fine-grained classes of the Grocery Store Dataset (Klasson et al., WACV 2019). Its three
    parts, which share classes, are pooled and split anew by class. Coarse classes, such as Milk,
    stay together, since their classes are near twins. Of each photograph the largest square in
    its middle is taken and resized, once: the images are then kept in a cache on disk.

    Arguments:
        root: a clone of the repository, a zip archive of it, or a folder with such an archive;
            what is read of it is dataset/.
        split: "train", "val", "trainval" (both together) or "test".
        validation: the coarse classes that leave the training split for the validation split; by
            default 10 with 15 classes.
        test: the coarse classes of the test split; by default 12 with 27 classes.
        size: height and width, in pixels.
        transform: applied to each batch of images, see ImageClasses.

    Raises:
        FileNotFoundError: if the set is not there or not whole.
        OSError: if a photograph cannot be read.
        ValueError: if there is no such split or coarse class, a coarse class is in both lists,
            none is left for the split, or size is below 1.

    Source: https://github.com/marcusklasson/GroceryStoreDataset, MIT licence.

    Example:
        >>> GroceryStore("data/grocery", "test").class_names[0]  # doctest: +SKIP
        'Lemon/Lemon'
    """

    #: About a third of the fruit, of the packages and of the vegetables.
    TEST = (
        *("Lemon", "Lime", "Melon", "Pear"),
        *("Oatghurt", "Sour-Cream", "Sour-Milk", "Yoghurt"),
        *("Aubergine", "Carrots", "Potato", "Tomato"),
    )
    #: About a sixth of them.
    VALIDATION = (
        *("Avocado", "Mango", "Orange", "Peach", "Satsumas"),
        *("Oat-Milk", "Soy-Milk", "Soyghurt"),
        *("Cabbage", "Pepper"),
    )

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        validation: Sequence[str] = VALIDATION,
        test: Sequence[str] = TEST,
        size: int = 64,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        check_split(split)
        expect_integer("size", size)
        files, images = _read(str(checked_root(root)), size)
        coarse = list(dict.fromkeys(name.split("/")[0] for name in files))
        kept = split_classes(coarse, split, validation, test, seed=0)
        names = [name for name in files if name.split("/")[0] in kept]
        counts = torch.tensor([len(some) for some in files.values()])
        of_split = torch.tensor([name in set(names) for name in files])
        labels = torch.arange(len(names)).repeat_interleave(counts[of_split])
        rows = of_split.repeat_interleave(counts)
        super().__init__(images[rows] / 255, labels, names, transform)

    @staticmethod
    def preparation(size: int = 64) -> list[Callable[[Any], Any]]:
        """Return how a photograph is read, see ImageClasses."""
        return [Squares(size)]


@lru_cache(maxsize=1)
def _read(root: str, size: int) -> tuple[dict[str, list[str]], Tensor]:
    """Return the files of each `<coarse>/<fine>`, and all images, uint8 [N, 3, size, size]."""
    tree = find_tree(root, "dataset/classes.csv", SOURCE)
    files = _listed(tree)
    found = sum(map(len, files.values()))
    missing = [file for some in files.values() for file in some if file not in tree]
    if (found, len(files)) != (IMAGES, CLASSES) or missing:
        lost = f"; {len(missing)} are listed but missing, such as {missing[0]}" if missing else ""
        raise FileNotFoundError(
            f"Expected {IMAGES} images of {CLASSES} classes in {tree.where('dataset')} but found "
            f"{found - len(missing)} of {len(files)}{lost}. Get the set again from {SOURCE}."
        )
    everything = [file for some in files.values() for file in some]
    key = (tree.stamp(everything), size)
    return files, cached("grocery_store", key, lambda: _squares(tree, everything, size))


def _listed(tree: FileTree) -> dict[str, list[str]]:
    """Return the files of each `<coarse>/<fine>`, in the order of the published numbers."""
    names = {}
    for fine, number, coarse in _table(tree, "dataset/classes.csv", 3)[1:]:
        names[number] = f"{coarse}/{fine}"
    files: dict[str, list[str]] = defaultdict(list, {name: [] for name in names.values()})
    for part in PARTS:
        for file, number, _ in _table(tree, f"dataset/{part}.txt", 3):
            files[names.get(number, f"?/{number}")].append(f"dataset/{file}")
    return dict(files)


def _table(tree: FileTree, name: str, columns: int) -> list[list[str]]:
    lines = tree.read(name).decode(errors="replace").splitlines()
    cells = [[cell.strip() for cell in line.split(",")] for line in lines if line.strip()]
    if not cells or min(map(len, cells)) < columns:
        raise OSError(
            f"{tree.where(name)}: expected {columns} columns in each line. Get it again from "
            f"{SOURCE}."
        )
    return [row[:columns] for row in cells]


def _squares(tree: FileTree, files: Sequence[str], size: int) -> Tensor:
    images = torch.empty(len(files), 3, size, size, dtype=torch.uint8)
    for image, file in zip(images, files, strict=True):
        square = ImageOps.fit(tree.picture(file), (size, size), Image.Resampling.BICUBIC)
        image[:] = torch.from_numpy(np.array(square)).permute(2, 0, 1)
    return images
