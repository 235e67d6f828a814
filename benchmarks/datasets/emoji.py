"""Emoji: one class for each, drawn by four design teams."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.datasets.checks import checked_root
from benchmarks.datasets.class_splits import split_classes
from benchmarks.datasets.file_tree import FileTree, find_tree
from benchmarks.datasets.image_classes import ImageClasses, check_split
from benchmarks.datasets.squares import Squares
from pml_synthesis._checks import expect_integer

VENDORS = ("twemoji", "openmoji", "noto", "fluentui")
# The Unicode groups and how many clean classes each has; flags are left out, for Fluent has hardly
# any of its own.
GROUPS = {
    "smileys_&_emotion": 168,
    "people_&_body": 287,
    "animals_&_nature": 138,
    "food_&_drink": 130,
    "travel_&_places": 214,
    "activities": 85,
    "objects": 260,
    "symbols": 221,
}
SOURCE = "https://github.com/discourse/discourse-emojis"
COMMIT = "84a48c2"


class Emoji(ImageClasses):
    """Emoji as classes, four drawings of each: float [N, 3, size, size] in [0, 1], on white.

    1,503 emoji, drawn by Twemoji, OpenMoji, Noto and Fluent (in that order), are split by their
    Unicode groups: the test classes are of kinds that are never trained on. An emoji is a class
    if all four have it, their drawings differ, and no drawing serves two emoji of a team.

    Arguments:
        root: a clone of the repository discourse/discourse-emojis, a zip archive of it, or a
            folder with such an archive; what is read of it is dist/emoji and two lists in dist.
        split: "train", "val", "trainval" (both together) or "test".
        validation: the groups that leave the training split for the validation split.
        test: the groups of the test split.
        size: height and width, in pixels; the drawings have 72.
        partial: whether to take what is there of another version of the repository.
        transform: applied to each batch of images, see ImageClasses.

    Raises:
        FileNotFoundError: if the drawings are not there, or not those 1,503.
        OSError: if one cannot be read.
        ValueError: if there is no such split or group, a group is in both lists, no group is left
            for the split, or size is below 1.

    Source: https://github.com/discourse/discourse-emojis, with the licences of the teams.

    Example:
        >>> Emoji("data/emoji", "test").class_names[0]  # doctest: +SKIP
        'animals_&_nature/monkey_face'
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        validation: Sequence[str] = ("travel_&_places",),
        test: Sequence[str] = ("animals_&_nature", "food_&_drink", "activities"),
        size: int = 32,
        partial: bool = False,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        check_split(split)
        expect_integer("size", size)
        groups = split_classes(list(GROUPS), split, validation, test, seed=0)
        classes, images = _read(str(checked_root(root)), size)
        _check_counts(classes, root, partial)
        kept = [i for i, name in enumerate(classes) if name.split("/")[0] in groups]
        labels = torch.arange(len(kept)).repeat_interleave(len(VENDORS))
        names = [classes[i] for i in kept]
        super().__init__(images[kept].flatten(0, 1) / 255, labels, names, transform)

    @staticmethod
    def preparation(size: int = 32) -> list[Callable[[Any], Any]]:
        """Return how a drawing is read, see ImageClasses."""
        return [Squares(size)]


def _check_counts(classes: Sequence[str], root: str | Path, partial: bool) -> None:
    found = Counter(name.split("/")[0] for name in classes)
    if partial or found == GROUPS:
        return
    others = [f"{group} {found[group]} ({count})" for group, count in GROUPS.items()]
    raise FileNotFoundError(
        f"Expected {sum(GROUPS.values())} emoji in {root} but found {len(classes)}. By group, with "
        f"the expected number: {', '.join(others)}. Clone {SOURCE} and check out its commit "
        f"{COMMIT}, or take what is there with partial=True."
    )


@lru_cache(maxsize=1)
def _read(root: str, size: int) -> tuple[list[str], Tensor]:
    """Return `<group>/<emoji>` of each class, and its drawings, uint8 [C, 4, 3, size, size]."""
    tree = find_tree(root, "dist/groups.json", SOURCE)
    canonical = set(_parsed(tree, "dist/emoji_to_name.json").values())
    group_of = {
        icon["name"]: group["name"]
        for group in _parsed(tree, "dist/groups.json")
        for icon in group["icons"]
        if icon["name"] in canonical
    }
    drawings = _clean({emoji: _drawings(tree, emoji) for emoji in group_of})
    kept = [emoji for emoji in drawings if group_of[emoji] in GROUPS]
    # By group, and within a group in the order of Unicode, which has like beside like.
    kept.sort(key=lambda emoji: list(GROUPS).index(group_of[emoji]))
    images = torch.empty(len(kept), len(VENDORS), 3, size, size, dtype=torch.uint8)
    for row, emoji in zip(images, kept, strict=True):
        for image, drawing in zip(row, drawings[emoji], strict=True):
            small = drawing.resize((size, size), Image.Resampling.BICUBIC)
            image[:] = torch.from_numpy(np.array(small)).permute(2, 0, 1)
    return [f"{group_of[emoji]}/{emoji}" for emoji in kept], images


def _parsed(tree: FileTree, name: str) -> Any:
    try:
        return json.loads(tree.read(name))
    except ValueError as error:
        raise OSError(
            f"{tree.where(name)} is no JSON: {error}. Get it again from {SOURCE}."
        ) from error


def _drawings(tree: FileTree, emoji: str) -> list[Image.Image]:
    """Return the drawings of an emoji, on white, of the teams that have one."""
    files = [f"dist/emoji/{vendor}/{emoji}.png" for vendor in VENDORS]
    return [tree.picture(file) for file in files if file in tree]


def _clean(drawings: dict[str, list[Image.Image]]) -> dict[str, list[Image.Image]]:
    """Return the emoji with four drawings, all different, that no other emoji has."""
    whole = {emoji: some for emoji, some in drawings.items() if len(some) == len(VENDORS)}
    contents = {emoji: [picture.tobytes() for picture in four] for emoji, four in whole.items()}
    uses = [Counter(column) for column in zip(*contents.values(), strict=True)]
    return {
        emoji: whole[emoji]
        for emoji, four in contents.items()
        if len(set(four)) == len(VENDORS)
        and all(use[content] == 1 for use, content in zip(uses, four, strict=True))
    }
