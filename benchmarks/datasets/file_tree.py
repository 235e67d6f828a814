"""The files of a data set, in a folder or in a zip archive."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from PIL import Image

from benchmarks.datasets.class_folders import is_of_a_system
from benchmarks.datasets.image_files import read_picture

LARGEST = 2**26  # bytes of a file in an archive; a larger one is no picture


class FileTree:
    """Files of a folder or of a zip archive, by their names relative to it, with slashes.

    What is hidden or left by systems, such as __MACOSX, is no part of it.

    Arguments:
        path: of the folder or of the archive.
        source: where to get it, for messages.
        inside: what the names are relative to, if not the top: such as "dist/".

    Raises:
        FileNotFoundError: if the archive is damaged.

    Example:
        >>> tree = FileTree("data/emoji/discourse-emojis.zip", "...")  # doctest: +SKIP
        >>> tree.picture(tree.names[0], "RGB")  # doctest: +SKIP
        <PIL.Image.Image image mode=RGB size=72x72>
    """

    def __init__(self, path: str | Path, source: str, inside: str = "") -> None:
        self.path = Path(path)
        self.source = source
        self.inside = inside
        self._archive = None if self.path.is_dir() else _open_archive(self.path, source)
        found = _walk(self.path, inside) if self._archive is None else self._archive.namelist()
        self.names = sorted(
            name[len(inside) :]
            for name in found
            if name.startswith(inside)
            and not name.endswith("/")
            and not any(map(is_of_a_system, name[len(inside) :].split("/")))
        )
        self._known = frozenset(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def where(self, name: str) -> Path:
        """Return the place of a file, for messages."""
        return self.path / self.inside / name

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            OSError: if it cannot be read; the message names the file.
        """
        try:
            return self._content(self.inside + name)
        # Damaged archives raise more than zipfile documents: zlib.error and EOFError, too.
        except Exception as error:
            raise OSError(
                f"{self.where(name)} cannot be read: {error}. Get it again from {self.source}."
            ) from error

    def picture(self, name: str, mode: str = "RGB") -> Image.Image:
        """Return a picture, see read_picture.

        Raises:
            OSError: if it cannot be read; the message names the file.
        """
        advice = f"Get it again from {self.source}."
        return read_picture(self.where(name), mode, self.read(name), advice)

    def stamp(self, names: Iterable[str]) -> str:
        """Return a text that changes when one of these files does, or the archive."""
        files = [self.path]
        if self._archive is None:
            files += [self.where(name) for name in names]
        states = [(str(file.absolute()), file.stat()) for file in files]
        found = [(name, state.st_size, state.st_mtime_ns) for name, state in states]
        return hashlib.sha256(repr(found).encode()).hexdigest()

    def _content(self, name: str) -> bytes:
        if self._archive is None:
            return (self.path / name).read_bytes()
        size = self._archive.getinfo(name).file_size
        if size > LARGEST:
            raise ValueError(f"it would unpack to {size} bytes, more than {LARGEST}")
        return self._archive.read(name)


def find_tree(root: str | Path, marker: str, source: str) -> FileTree:
    """Return the files of a set that is known by one of them, such as "dist/groups.json".

    `root` is the folder that has this file, a zip archive of it, or a folder with such an archive.
    In an archive everything may lie in one folder more, as in those that GitHub makes.

    Raises:
        FileNotFoundError: if there is none, or the archive that may have it is damaged.
    """
    root = Path(root)
    if (root / marker).is_file():
        return FileTree(root, source)
    archives = [root] if root.is_file() else _archives_in(root)
    damaged = []
    for archive in archives:
        try:
            tree = FileTree(archive, source)
        except FileNotFoundError as error:
            damaged.append(error)
            continue
        for folder in ("", *sorted({name.split("/")[0] + "/" for name in tree.names})):
            if folder + marker in tree:
                return FileTree(archive, source, folder)
    if damaged:
        raise damaged[0]
    looked = f"{root}, nor in {', '.join(map(str, archives))}" if archives else f"{root}"
    raise FileNotFoundError(
        f"There is no {marker} in {looked}. Expected a folder that has it, or a zip archive of "
        f"one: get it from {source}."
    )


def _archives_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.suffix.lower() == ".zip" and not is_of_a_system(path.name)
    )


def _walk(folder: Path, inside: str) -> list[str]:
    found = []
    for top, folders, files in os.walk(folder / inside):
        folders[:] = [name for name in folders if not is_of_a_system(name)]  # such as .git
        found += [Path(top, file).relative_to(folder).as_posix() for file in files]
    return found


def _open_archive(path: Path, source: str) -> ZipFile:
    try:
        return ZipFile(path)
    # The last two are of damaged headers and names.
    except (BadZipFile, NotImplementedError, ValueError) as error:
        raise FileNotFoundError(
            f"Expected a zip archive in {path} but it is damaged ({error}). "
            f"Get it again from {source}."
        ) from error
