"""Whether the runs of a results folder were made with the same data."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml

from benchmarks import files
from benchmarks.datasets.marks import Mark
from benchmarks.errors import SettingsError
from benchmarks.results import reading
from benchmarks.results.changes import listed
from benchmarks.results.paths import CHECKPOINT, DATA, is_finished

Marks = Mapping[str, Mark]  # of the splits


def check_data(folder: Path, variants: Iterable[str], marks: Marks) -> None:
    """Raise a SettingsError, showing the changes, if variants were run with other data.

    Runs that nothing is left of do not count, nor do those without a mark.

    Arguments:
        folder: of the comparison or of the search.
        variants: those that are compared.
        marks: of the data that there is now.
    """
    changed: dict[str, list[str]] = {}
    for variant in variants:
        for path in sorted((folder / variant).rglob(DATA)):
            if changes := changes_since(path.parent, marks):
                changed.setdefault(variant, []).extend(changes)
    if changed:
        raise SettingsError(
            f"{folder} holds runs with other data, of {', '.join(changed)}:\n  "
            + listed(line for lines in changed.values() for line in lines)
            + f"\nBring that data back, delete {folder} or the folders of these variants in it, or "
            "give the comparison another name (name=...) or place (results=...)."
        )


def check_run(folder: Path, marks: Marks) -> None:
    """Raise a SettingsError if a run is about to go on with other data."""
    if changes := changes_since(folder, marks):
        raise SettingsError(
            f"{folder} holds a run with other data:\n  {listed(changes)}\n"
            "Bring that data back, or delete the folder."
        )


def write(folder: Path, marks: Marks) -> None:
    """Write down what data a run is made with."""
    files.write_text(yaml.safe_dump(dict(marks), sort_keys=False), folder / DATA)


def changes_since(folder: Path, marks: Marks) -> list[str]:
    """Return a line for each split that changed since a run began, if anything is left of it."""
    path = folder / DATA
    if not path.exists() or not (is_finished(folder) or (folder / CHECKPOINT).exists()):
        return []
    with reading.undamaged(path, "Delete it if the data did not change since."):
        there = yaml.safe_load(path.read_text())
        return list(_differences(there, marks))


def _differences(there: Marks, now: Marks) -> Iterator[str]:
    for split in there | now:
        before, after = there.get(split), now.get(split)
        if before == after:
            continue
        if before is None or after is None or _counts(before) != _counts(after):
            yield f"{split}: {_counts(before)} there, {_counts(after)} now"
        elif before["names"] != after["names"]:
            yield f"{split}: the classes have other names now, or another order"
        elif before["labels"] != after["labels"]:
            yield f"{split}: the classes have other numbers of images now"
        else:
            yield f"{split}: as many images of the same classes, but others now"


def _counts(mark: Mark | None) -> str:
    return "none" if mark is None else f"{mark['classes']} classes, {mark['images']} images"
