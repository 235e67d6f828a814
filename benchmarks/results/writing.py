"""What is written into a results folder."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import format_exception

import yaml

from benchmarks.errors import SettingsError
from benchmarks.files import remove_unfinished, write_text
from benchmarks.results.paths import COMPARISON, FAILURE, SETTINGS, SPLITS, VERSIONS
from benchmarks.results.provenance import provenance
from benchmarks.results.reading import OVERLAPS, Counts, read_run_versions
from benchmarks.settings.schema import Run, dump

AN_HOUR = 3600.0
OF_A_WORKER = "in DataLoader worker process"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Say it in plain words if results cannot be written.

    Raises:
        SettingsError: if the disk is full or read-only, or the folder may not be written to.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM and not _is_about(error, folder):
            raise
        raise SettingsError(
            f"{folder}: results cannot be written there: {error.strerror}. Make room or permit it, "
            "and the same command goes on from there, or give another place (results=...)."
        ) from error


def _is_about(error: OSError, folder: Path) -> bool:
    """Tell whether an error is of the folder, one that it is in, or something in it."""
    if error.filename is None:
        return False
    path = Path(os.fsdecode(error.filename))
    return path.is_relative_to(folder) or folder.is_relative_to(path)


def start(folder: Path, run: Run) -> None:
    """Write down what is run, and with which versions; a resumed run may be made with several."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder)
    (folder / FAILURE).unlink(missing_ok=True)
    write_text(dump(run), folder / SETTINGS)
    path = folder / VERSIONS
    versions = read_run_versions(path)
    if provenance() not in versions:
        write_text(yaml.safe_dump([*versions, provenance()], sort_keys=False), path)


def write_comparison(folder: Path, baselines: Mapping[str, str | None]) -> None:
    """Write down the variants, in order, and what each is compared with."""
    folder.mkdir(parents=True, exist_ok=True)
    # Who runs other variants, or makes a report, may be writing there, but takes no hour.
    remove_unfinished(folder, untouched_for=AN_HOUR)
    write_text(yaml.safe_dump({"baselines": dict(baselines)}, sort_keys=False), folder / COMPARISON)


def write_splits(folder: Path, counts: Counts, overlaps: Sequence[str]) -> None:
    """Write down how many classes and images each split has, and which ones splits share."""
    tree = counts | ({OVERLAPS: list(overlaps)} if overlaps else {})
    write_text(yaml.safe_dump(tree, sort_keys=False), folder / SPLITS)


def write_failure(folder: Path, error: BaseException) -> None:
    """Write down why a run failed: a line for reports, and the whole traceback."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text("\n\n".join([reason(error), "".join(format_exception(error))]), folder / FAILURE)


def reason(error: BaseException) -> str:
    """Return why a run failed, in a line."""
    told = str(error)
    if OF_A_WORKER in told:
        # torch writes the whole traceback there, and what was raised at its end.
        return " ".join(told.strip().splitlines()[-1].split())
    name = "" if isinstance(error, SettingsError) else f"{type(error).__name__}: "
    return name + " ".join(told.split())
