"""Images of the user's own, in a folder for each class."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.datasets.class_splits import Classes, split_classes
from benchmarks.datasets.image_classes import ImageClasses, check_split
from benchmarks.datasets.image_files import read_picture
from benchmarks.datasets.squares import Squares

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
NO_IMAGES = {"desktop.ini", "thumbs.db"}  # what systems leave in folders, beside hidden files
MOST_NAMES = 5  # that a message shows


class ImageFolder(ImageClasses):
    """Pictures in `root/<class>/`, at any depth: float [N, 3 or 1, size, size] in [0, 1].

    Classes are split, never the images of a class. Of each picture the largest square in its
    middle is taken and resized. Transparent parts become white, and 16 bits are scaled to 8 (see
    read_picture). All images are held in memory. A warning counts and names the files that are
    left out, since their format is not read, links to folders inside of a class, and the classes of
    one image.

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
        OSError: if images cannot be read; all of them are counted, and the first are named.
        ValueError: if there is no such split or class, a fraction is not in [0, 1), a class is in
            both lists, or the split is left without classes.

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
        if size < 1:
            raise ValueError(f"Expected argument `size` to be a positive integer but got {size}.")
        files = _find_images(Path(root))
        names = split_classes(sorted(files), split, validation, test, seed)
        images = _read_all([file for name in names for file in files[name]], size, grey)
        labels = torch.arange(len(names)).repeat_interleave(
            torch.tensor([len(files[name]) for name in names])
        )
        super().__init__(torch.stack(images), labels, names, transform)

    @staticmethod
    def preparation(size: int = 64, grey: bool = False) -> list[Callable[[Any], Any]]:
        """Return how a picture is read, see ImageClasses."""
        return [Squares(size, grey)]


def _find_images(root: Path) -> dict[str, list[Path]]:
    layout = f"Images are expected in {root}/<class>/, as {', '.join(sorted(SUFFIXES))}"
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}. {layout}.")
    shown = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    there = {path.name: sorted(path.rglob("*")) for path in shown if path.is_dir()}
    found = {
        name: [path for path in paths if is_meant(path, root / name)]
        for name, paths in there.items()
    }
    if not found:
        raise FileNotFoundError(f"There are no folders of classes in {root}. {layout}.")
    lost = [path for path in shown if path.is_symlink() and not path.exists()]
    lost += [
        path
        for paths in there.values()
        for path in paths
        # Followed, links may lead in circles.
        if path.is_symlink() and path.is_dir() and not _is_hidden(path, root)
    ]
    if lost:
        warnings.warn(
            f"{len(lost)} links in {root} are left out, since they lead nowhere, or to a folder "
            f"from inside of a class: {_some_of(lost, root)}. Put the folder itself there.",
            stacklevel=3,
        )
    files = {name: [path for path in paths if _is_image(path)] for name, paths in found.items()}
    if empty := sorted(name for name, images in files.items() if not images):
        raise FileNotFoundError(
            f"There are no images of {', '.join(empty)} in {root}. {layout}: add some to each of "
            "these folders, or take the folders away."
        )
    unknown = [path for paths in found.values() for path in paths if not _is_image(path)]
    if unknown:
        kinds = Counter(path.suffix.lower() or "no suffix" for path in unknown)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        warnings.warn(
            f"{len(unknown)} files in {root} are left out, since their formats are not read "
            f"({counts}): {_some_of(unknown, root)}. Convert them to PNG or JPEG, or remove them.",
            stacklevel=3,
        )
    if single := sorted(name for name, images in files.items() if len(images) == 1):
        warnings.warn(
            f"{len(single)} classes in {root} have one image only, which has no other of its class "
            f"to retrieve: {', '.join(single[:MOST_NAMES])}"
            f"{', ...' if len(single) > MOST_NAMES else ''}. Add images, or remove these classes.",
            stacklevel=3,
        )
    return files


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def is_meant(path: Path, folder: Path) -> bool:
    """Tell whether somebody put a file into a folder, and no system did.

    A link to no file is one, too: it fails when it is read.
    """
    is_file = path.is_file() or (path.is_symlink() and not path.is_dir())
    return is_file and not _is_hidden(path, folder) and path.name.lower() not in NO_IMAGES


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _some_of(paths: Iterable[Path], root: Path) -> str:
    names = [path.relative_to(root).as_posix() for path in sorted(paths)]
    return ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")


def _read_all(files: Sequence[Path], size: int, grey: bool) -> list[Tensor]:
    images, failures = [], []
    squares = Squares(size, grey)
    for file in files:
        try:
            picture = read_picture(file, "L" if grey else "RGB")
        except OSError as error:
            failures.append(error)
        else:
            images += squares([picture])
    if failures:
        reasons = [str(error) for error in failures[:MOST_NAMES]]
        more = len(failures) - len(reasons)
        raise OSError(
            f"{len(failures)} of {len(files)} images cannot be read:\n  "
            + "\n  ".join([*reasons, *([f"and {more} more"] if more else [])])
        ) from failures[0]
    return images
