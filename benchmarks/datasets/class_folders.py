"""The images in a folder that has a folder for each class."""

import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
# What systems leave beside hidden files and folders.
NO_IMAGES = {"desktop.ini", "thumbs.db"}
NO_CLASSES = {"$recycle.bin", "system volume information", "@eadir", "__macosx"}
NAMES_OF_SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
MOST_NAMES = 5  # that a message shows


class Contents(NamedTuple):
    """What is in a folder, at any depth, in order, without what systems leave.

    Arguments:
        files: links to nothing too, which fail when they are read.
        links: to folders; followed, they may lead in circles.
        closed: folders that may not be read.
    """

    files: list[Path]
    links: list[Path]
    closed: list[Path]


def contents(folder: Path) -> Contents:
    """Return what is in a folder."""
    found = Contents([], [], [])
    for place, folders, files in os.walk(folder):
        top = Path(place)
        if not os.access(top, os.R_OK | os.X_OK):
            found.closed.append(top)
            folders[:] = []
            continue
        folders[:] = [name for name in folders if not is_of_a_system(name)]
        found.links.extend(top / name for name in folders if (top / name).is_symlink())
        meant = (top / name for name in files if not is_of_a_system(name))
        found.files.extend(path for path in meant if path.is_file() or path.is_symlink())
    return Contents(*map(sorted, found))


def is_of_a_system(name: str) -> bool:
    """Tell whether a file or folder of this name is hidden, or left by a system."""
    return name.startswith(".") or name.lower() in NO_IMAGES | NO_CLASSES


def images_of_classes(root: Path) -> dict[str, list[Path]]:
    """Return the images of each `root/<class>/`, by the name of the class, both in order.

    Names are in the normal form NFC, since systems write accents in several ways, and bytes that
    are no UTF-8 are spelled out. Warnings name what is left out.

    Raises:
        FileNotFoundError: if there is no such folder, no class in it, or no image in a class.
        PermissionError: if folders may not be read.
        ValueError: if its folders are splits, with the classes in them.
    """
    layout = f"Images are expected in {root}/<class>/, as {', '.join(sorted(SUFFIXES))}"
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}. {layout}.")
    if not os.access(root, os.R_OK | os.X_OK):
        raise PermissionError(f"The folder {root} may not be read. Permit it.")
    shown = sorted(path for path in root.iterdir() if not is_of_a_system(path.name))
    folders, lost = _folders_of_classes(root, shown)
    there = {folder: contents(folder) for folder in folders}
    if closed := [path for found in there.values() for path in found.closed]:
        raise PermissionError(
            f"{len(closed)} folders in {root} may not be read: {_some_of(closed, root)}. Permit "
            "it, or take them away."
        )
    if not there:
        raise FileNotFoundError(f"There are no folders of classes in {root}. {layout}.")
    _refuse_splits(root, there)
    _warn_of_links(root, [*lost, *(path for found in there.values() for path in found.links)])
    outside = [path for path in shown if path.is_file()]
    _warn_of_files_outside(root, picture_files(outside))
    warn_of_formats(root, [*outside, *(path for found in there.values() for path in found.files)])
    images: dict[str, list[Path]] = {}
    for folder, found in there.items():
        name = _name(folder)
        images[name] = images.get(name, []) + picture_files(found.files)
    if empty := [name for name, files in images.items() if not files]:
        raise FileNotFoundError(
            f"There are no images of {', '.join(empty)} in {root}. {layout}: add some to each of "
            "these folders, or take the folders away."
        )
    _warn_of_single_images(root, images)
    return {name: images[name] for name in sorted(images)}


def warn_of_formats(root: Path, files: Sequence[Path]) -> None:
    """Warn of files in a folder that are no pictures by their suffixes, if there are any."""
    if unknown := sorted(set(files) - set(picture_files(files))):
        kinds = Counter(path.suffix.lower() or "no suffix" for path in unknown)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        _warn(
            f"{counted(len(unknown), 'file')} in {root} left out, in no format that is read "
            f"({counts}): {_some_of(unknown, root)}. Convert pictures to PNG or JPEG, and remove "
            "the rest."
        )


def picture_files(files: Iterable[Path]) -> list[Path]:
    """Return those files that are pictures by their suffixes."""
    return [path for path in files if path.suffix.lower() in SUFFIXES]


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as "1 file" and "2 files"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _folders_of_classes(root: Path, shown: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the folders of classes, and links that lead nowhere or to images of others."""
    folders = [path for path in shown if path.is_dir() and not path.is_symlink()]
    known, lost = [path.resolve() for path in folders], []
    for link in filter(Path.is_symlink, shown):
        target = link.resolve() if link.exists() else None
        if target is None or (
            target.is_dir()
            and (
                root.resolve().is_relative_to(target)
                or any(target.is_relative_to(other) for other in known)
            )
        ):
            lost.append(link)
        elif target.is_dir():
            folders.append(link)
            known.append(target)
    return sorted(folders), lost


def _refuse_splits(root: Path, there: Mapping[Path, Contents]) -> None:
    names = [folder.name for folder in there]
    inside = all(
        found.files and all(path.parent != folder for path in found.files)
        for folder, found in there.items()
    )
    if inside and NAMES_OF_SPLITS.issuperset(name.lower() for name in names):
        raise ValueError(
            f"The folders in {root} are no classes but splits ({', '.join(names)}) that have the "
            f"folders of classes. Give each split a root of its own, such as {root}/{names[0]} "
            "with split: trainval, validation: 0 and test: 0, or put the folders of all classes "
            "into one folder."
        )


def _warn_of_links(root: Path, links: Sequence[Path]) -> None:
    if links:
        _warn(
            f"{len(links)} links in {root} are left out, since they lead nowhere, to images of "
            f"other classes, or to a folder from inside of a class: {_some_of(links, root)}. Put "
            "the folder itself there."
        )


def _warn_of_files_outside(root: Path, images: Sequence[Path]) -> None:
    if images:
        _warn(
            f"{counted(len(images), 'image')} directly in {root} left out, in no folder of a "
            f"class: {_some_of(images, root)}. Put them into one, or elsewhere."
        )


def _warn_of_single_images(root: Path, images: Mapping[str, Sequence[Path]]) -> None:
    if single := sorted(name for name, files in images.items() if len(files) == 1):
        _warn(
            f"{len(single)} classes in {root} have one image only, which has no other of its class "
            f"to retrieve: {', '.join(single[:MOST_NAMES])}"
            f"{', ...' if len(single) > MOST_NAMES else ''}. Add images, or remove these classes."
        )


def _warn(message: str) -> None:
    # As of the caller of the dataset.
    warnings.warn(message, stacklevel=5)


def _name(folder: Path) -> str:
    name = os.fsencode(folder.name).decode(errors="backslashreplace")
    return unicodedata.normalize("NFC", name)


def _some_of(paths: Iterable[Path], root: Path) -> str:
    names = [path.relative_to(root).as_posix() for path in sorted(paths)]
    return ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
