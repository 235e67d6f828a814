"""What splits must be for figures to mean what the report says of them: checked before training."""

import os
from collections.abc import Hashable, Iterator, Mapping

from torch import Tensor

from benchmarks.datasets.class_folders import MOST_NAMES
from benchmarks.datasets.image_classes import ImageClasses
from benchmarks.datasets.image_files import ImageFiles
from benchmarks.datasets.splits import Splits
from benchmarks.errors import SettingsError

# Who may not have seen what: validation and test classes are unseen in training, test classes are
# not those that chose the epoch. Test images and gallery are of the same classes.
APART = (
    *(("train", "val"), ("train", "test"), ("train", "gallery")),
    *(("val", "test"), ("val", "gallery"), ("test", "gallery")),
)
OF_THE_SAME_CLASSES = ("test", "gallery")


def check_splits(splits: Splits, allow_overlap: bool) -> None:
    """Raise a SettingsError for splits without files, with shared classes, or nothing to retrieve.

    Arguments:
        splits: the datasets.
        allow_overlap: whether splits may share classes and images.
    """
    _check_files(splits)
    found = overlaps(splits)
    if found and not allow_overlap:
        raise SettingsError(
            f"data: {'; '.join(found)}. Figures of what was seen before say nothing of unseen "
            "classes: take others, or say that it is meant (data.allow_overlap=true)."
        )
    for name in ("val", "test"):
        images = getattr(splits, name)
        if name == "test" and splits.gallery is not None:
            _check_labels_agree(splits.test, splits.gallery)
        elif images is not None and images.labels.bincount().max() < 2:
            raise SettingsError(
                f"data.{name}: no class has two images, so no image has another one of its class "
                "to retrieve. Take more images of each class."
            )


def overlaps(splits: Splits) -> list[str]:
    """Say which splits share classes, by their names, or images.

    Images are the same that have the same pixels, where both splits hold theirs in memory, or that
    are the same file, where both read them from disk.
    """
    there = splits.given()
    seen = {name: _images(images) for name, images in there.items()}
    found = []
    for one, other in APART:
        if one not in there or other not in there:
            continue
        shared = {}
        if (one, other) != OF_THE_SAME_CLASSES:
            names = set(there[other].class_names)
            shared["classes"] = [name for name in there[one].class_names if name in names]
        shared["images"] = list(_shared_images(seen[one], seen[other]))
        told = [
            f"{len(examples)} {what} (such as {examples[0]})"
            for what, examples in shared.items()
            if examples
        ]
        if told:
            found.append(f"{one} and {other} share {' and '.join(told)}")
    return found


def _check_files(splits: Splits) -> None:
    """Raise a SettingsError if a batch, the last one maybe, would find files missing or empty."""
    lost = {}
    for name, images in splits.given().items():
        if isinstance(images.images, ImageFiles):
            lost |= {path: name for path in images.images.paths if _is_lost(path)}
    if lost:
        paths = list(lost)
        more = f" and {len(paths) - MOST_NAMES} more" if len(paths) > MOST_NAMES else ""
        raise SettingsError(
            f"data: {len(paths)} images of {', '.join(dict.fromkeys(lost.values()))} are missing "
            f"or empty: {', '.join(paths[:MOST_NAMES])}{more}. Put them back."
        )


def _is_lost(path: str) -> bool:
    try:
        return os.stat(path).st_size == 0
    except OSError:
        return True


def _shared_images(one: Mapping[Hashable, str], other: Mapping[Hashable, str]) -> Iterator[str]:
    for image, name in one.items():
        if image in other:
            yield f"one of {name} here and of {other[image]} there"


def _images(dataset: ImageClasses) -> dict[Hashable, str]:
    """What tells images apart, and the class of each; empty where it cannot be known."""
    names = (dataset.class_names[label] for label in dataset.labels.tolist())
    return dict(zip(_marks(dataset.images), names, strict=False))


def _marks(images: Tensor | ImageFiles) -> Iterator[Hashable]:
    if isinstance(images, Tensor):
        for image in images:
            yield "pixels", hash(image.cpu().numpy().tobytes())
    elif isinstance(images, ImageFiles):
        for path in images.paths:
            # Also through links.
            file = os.stat(path)
            yield "file", file.st_dev, file.st_ino


def _check_labels_agree(test: ImageClasses, gallery: ImageClasses) -> None:
    """Raise a SettingsError unless a label means the same class in both."""
    for label, (one, other) in enumerate(zip(test.class_names, gallery.class_names, strict=False)):
        if one != other:
            raise SettingsError(
                f"data.gallery: expected the classes of data.test in its order, but the label "
                f"{label} is {other!r} there and {one!r} in the test."
            )
