"""The results folder of a comparison.

<folder>/comparison.yaml        the variants, in order, and what each is compared with
<folder>/splits.yaml            how many classes and images each split has, and what they share
<folder>/summary.csv, .md       and results.csv and pictures
<folder>/<variant>/seed_<n>/    settings.yaml, versions.yaml, logs/; once the run is finished
                                best.pt, view.pt and metrics.csv; until then checkpoint.pt, and
                                where it failed error.txt
"""

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from textwrap import shorten
from traceback import format_exception
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from benchmarks.errors import SettingsError
from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.files import atomic_write
from benchmarks.results.provenance import provenance
from benchmarks.settings.merging import is_object, merge
from benchmarks.settings.schema import Run, dump

COMPARISON = "comparison.yaml"
SPLITS = "splits.yaml"
SETTINGS = "settings.yaml"
VERSIONS = "versions.yaml"
METRICS = "metrics.csv"
CHECKPOINT = "checkpoint.pt"
MODELS = "best.pt"
VIEW = "view.pt"
LOGS = "logs"
OVERLAPS = "overlaps"  # beside the splits
FAILURE = "error.txt"
LOCK = ".lock"
# Columns of metrics.csv that hold texts, and those that no row lacks.
OF_TEXT = ("variant", "split")
OF_EACH_ROW = (*OF_TEXT, "seed", "epoch", "seconds")
MOST_OF_A_REASON = 200  # characters that a message shows
MOST_CHANGES = 5  # that a message shows
ABSENT = object()
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

Tree = dict[str, Any]
Counts = dict[str, dict[str, int]]


def run_folder(folder: Path, run: Run) -> Path:
    """Return the folder of a run in that of its comparison."""
    return folder / run.variant / f"seed_{run.seed}"


def is_finished(folder: Path) -> bool:
    """Tell whether the folder of a run holds its results."""
    return (folder / METRICS).exists()


def check_settings(folder: Path, variants: Iterable[Run]) -> None:
    """Raise a SettingsError, showing the changes, if variants were run with other settings.

    Seeds may differ, and so may the place of the data (`data.root`) and of the computation.
    """
    changed: dict[str, list[str]] = {}
    for run in variants:
        asked = _comparable(yaml.safe_load(dump(run)))
        for path in sorted((folder / run.variant).glob(f"seed_*/{SETTINGS}")):
            there = _comparable(_with_defaults(_saved_settings(path)))
            if there != asked:
                changed.setdefault(run.variant, []).extend(_changes(there, asked))
    if changed:
        # Most changes are common to variants and seeds.
        lines = list(dict.fromkeys(chain.from_iterable(changed.values())))
        more = [f"and {len(lines) - MOST_CHANGES} more"] if len(lines) > MOST_CHANGES else []
        raise SettingsError(
            f"{folder} holds runs with other settings, of {', '.join(changed)}:\n  "
            + "\n  ".join(lines[:MOST_CHANGES] + more)
            + f"\nDelete {folder}, or the folders of these variants in it, or give the comparison "
            "another name (name=...) or place (results=...)."
        )


@contextmanager
def writing(folder: Path) -> Iterator[None]:
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


@contextmanager
def claimed(folder: Path, variants: Iterable[str]) -> Iterator[None]:
    """Keep others from running these variants. However this process ends, they are free then.

    Raises:
        SettingsError: if another process is running one of them.
    """
    with ExitStack() as held:
        for variant in variants:
            (folder / variant).mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(FileLock(folder / variant / LOCK, timeout=0))
            except Timeout as error:
                raise SettingsError(
                    f"{folder / variant}: another process is running this variant. Wait for it, or "
                    "give the comparison another name (name=...)."
                ) from error
        yield


def start(folder: Path, run: Run) -> None:
    """Write down what is run, and with which versions; a resumed run may be made with several."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FAILURE).unlink(missing_ok=True)
    write_text(dump(run), folder / SETTINGS)
    path = folder / VERSIONS
    versions = _versions(path)
    if provenance() not in versions:
        write_text(yaml.safe_dump([*versions, provenance()], sort_keys=False), path)


def write_failure(folder: Path, error: BaseException) -> None:
    """Write down why a run failed: a line for reports, and the whole traceback."""
    name = "" if isinstance(error, SettingsError) else f"{type(error).__name__}: "
    reason = name + " ".join(str(error).split())
    folder.mkdir(parents=True, exist_ok=True)
    write_text("\n\n".join([reason, "".join(format_exception(error))]), folder / FAILURE)


def read_failures(folder: Path) -> dict[str, str]:
    """Return why runs failed, by their variant and seed: of those that were not run again since."""
    return {
        f"{variant}, seed {run.name.removeprefix('seed_')}": (
            (run / FAILURE).read_text(errors="replace").split("\n", 1)[0]
        )
        for variant in read_comparison(folder)
        for run in _runs(folder / variant)
        if (run / FAILURE).exists()
    }


def write_comparison(folder: Path, baselines: Mapping[str, str | None]) -> None:
    """Write down the variants, in order, and what each is compared with."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(yaml.safe_dump({"baselines": dict(baselines)}, sort_keys=False), folder / COMPARISON)


def write_splits(folder: Path, counts: Counts, overlaps: Sequence[str]) -> None:
    """Write down how many classes and images each split has, and which ones splits share."""
    tree = counts | ({OVERLAPS: list(overlaps)} if overlaps else {})
    write_text(yaml.safe_dump(tree, sort_keys=False), folder / SPLITS)


def read_counts(folder: Path) -> Counts:
    """Return how many classes and images each split has: none where nobody wrote it down."""
    tree = _read_splits(folder)
    return {name: counts for name, counts in tree.items() if name != OVERLAPS}


def read_overlaps(folder: Path) -> list[str]:
    """Return what splits share, a text for each two of them."""
    overlaps: list[str] = _read_splits(folder).get(OVERLAPS, [])
    return overlaps


def _read_splits(folder: Path) -> Tree:
    path = folder / SPLITS
    if not path.exists():
        return {}
    advice = "Delete it: reports then leave these counts out."
    tree: Tree = _read_yaml(path, dict, advice)
    with undamaged(path, advice):
        for name, counts in tree.items():
            if name != OVERLAPS and not {"classes", "images"} <= counts.keys():
                raise ValueError(f"it has no counts of {name}")
    return tree


def read_comparison(folder: Path) -> dict[str, str | None]:
    """Return the variants, in order, and what each is compared with.

    Raises:
        SettingsError: if there is no comparison in the folder.
    """
    path = folder / COMPARISON
    if not path.exists():
        raise SettingsError(
            f"{folder}: no results of a comparison: {COMPARISON} is missing. Give the folder that "
            "`compare` names at its end."
        )
    advice = "The command that made it writes it again."
    tree = _read_yaml(path, dict, advice)
    with undamaged(path, advice):
        return {str(variant): baseline for variant, baseline in tree["baselines"].items()}


def read_metrics(folder: Path) -> pd.DataFrame:
    """Return the metrics of all finished runs of a comparison: variants in order, then seeds.

    Raises:
        SettingsError: if there are none; the message says which ones failed, and why.
    """
    tables = [
        _read_metrics(run / METRICS)
        for variant in read_comparison(folder)
        for run in _runs(folder / variant)
        if is_finished(run)
    ]
    if not tables:
        failures = read_failures(folder)
        failed = [f"\n  {run}: {reason}" for run, reason in failures.items()]
        raise SettingsError(f"{folder}: no run is finished yet." + "".join(failed))
    return pd.concat(tables, ignore_index=True)


def read_settings(folder: Path) -> dict[str, Tree]:
    """Return the settings of each variant that was run, without its seed and the data's place."""
    settings = {}
    for variant in read_comparison(folder):
        for run in _runs(folder / variant)[:1]:
            settings[variant] = _comparable(_saved_settings(run / SETTINGS))
    return settings


def read_versions(folder: Path) -> list[dict[str, str]]:
    """Return the versions that the finished runs were made with, each once."""
    versions: list[dict[str, str]] = []
    for variant in read_comparison(folder):
        for run in filter(is_finished, _runs(folder / variant)):
            versions += [entry for entry in _versions(run / VERSIONS) if entry not in versions]
    return versions


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV file."""
    with atomic_write(path) as unfinished:
        table.to_csv(unfinished, index=False)


def write_text(text: str, path: Path) -> None:
    """Write a text file."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text)


@contextmanager
def undamaged(path: Path, advice: str) -> Iterator[None]:
    """Turn whatever is raised while a file is read into a SettingsError that names it.

    Arguments:
        path: of the file.
        advice: what to do about it.
    """
    try:
        yield
    except SettingsError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        told = shorten(reason, MOST_OF_A_REASON, placeholder=" ...")
        raise SettingsError(f"{path} is damaged or not of this runner: {told}. {advice}") from error


def _read_yaml(path: Path, kind: type, advice: str) -> Any:
    with undamaged(path, advice):
        tree = yaml.safe_load(path.read_text())
        if not isinstance(tree, kind):
            raise ValueError(f"it holds no {kind.__name__} but {tree!r}")
        return tree


def _saved_settings(path: Path) -> Tree:
    advice = f"Delete the folder {path.parent}: the command that made it makes it again."
    tree: Tree = _read_yaml(path, dict, advice)
    with undamaged(path, advice):
        if not isinstance(tree["data"], dict) or not isinstance(tree["variant"], str):
            raise ValueError("its data or its variant are no settings")
    return tree


def _versions(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    advice = "Delete it: reports then leave these versions out."
    versions: list[dict[str, str]] = _read_yaml(path, list, advice)
    with undamaged(path, advice):
        if not all(isinstance(entry, dict) for entry in versions):
            raise ValueError("it is no list of versions")
    return versions


def _read_metrics(path: Path) -> pd.DataFrame:
    with undamaged(path, "Delete it: the command that made it makes this run again."):
        table = pd.read_csv(path, dtype={"variant": str, "split": str})
        if table.empty or table[list(OF_EACH_ROW)].isna().any(axis=None):
            raise ValueError("lines are missing or cut off")
        if MAIN_METRIC not in table:
            raise ValueError(f"there is no column {MAIN_METRIC}")
        return table.astype(dict.fromkeys(table.columns.difference(OF_TEXT), float)).astype(
            {"seed": int, "epoch": int}
        )


def _runs(folder: Path) -> list[Path]:
    runs = [path for path in folder.glob("seed_*") if re.fullmatch(r"seed_-?\d+", path.name)]
    return sorted(runs, key=lambda path: int(path.name.removeprefix("seed_")))


def _with_defaults(settings: Tree) -> Tree:
    """Settings that the runner did not have yet when these were written, as they are by default."""
    defaults = yaml.safe_load(OmegaConf.to_yaml(OmegaConf.structured(Run(settings["variant"]))))
    return merge(defaults, settings)


def _comparable(settings: Tree) -> Tree:
    # That splits may share classes changes nothing of a run, nor does who reads its images.
    uncounted = ("allow_overlap", "workers")
    data = {key: value for key, value in settings["data"].items() if key not in uncounted}
    counting = {key: value for key, value in settings.items() if key not in ("variant", "seed")}
    return counting | {"data": _without_root(data, data.get("root")) | {"root": None}}


def _without_root(value: Any, root: str | None) -> Any:
    if isinstance(value, dict):
        return {key: _without_root(item, root) for key, item in value.items()}
    if root and isinstance(value, str) and (value == root or value.startswith(f"{root}/")):
        return "${data.root}" + value.removeprefix(root)
    return value


def _changes(there: Any, asked: Any, path: str = "") -> Iterator[str]:
    """A line for each setting that changed; an object of another class changed as a whole."""
    of_other_classes = is_object(there) and is_object(asked) and there.keys() != asked.keys()
    if isinstance(there, dict) and isinstance(asked, dict) and not of_other_classes:
        for key in there | asked:
            below = f"{path}.{key}" if path else key
            yield from _changes(there.get(key, ABSENT), asked.get(key, ABSENT), below)
    elif there != asked:
        yield f"{path}: {_brief(there)} there, {_brief(asked)} now"


def _brief(value: Any) -> str:
    if value is ABSENT:
        return "not given"
    return shorten(json.dumps(value, ensure_ascii=False), 60, placeholder=" ...")
