"""What a results folder holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

import pandas as pd
import yaml

from benchmarks.errors import SettingsError
from benchmarks.results import metrics
from benchmarks.results.paths import (
    COMPARISON,
    FAILURE,
    METRICS,
    SETTINGS,
    SPLITS,
    VERSIONS,
    is_finished,
    run_of,
    runs_of,
)

MOST_OF_A_REASON = 200  # characters that a message shows
OVERLAPS = "overlaps"  # beside the splits
Tree = dict[str, Any]
Counts = dict[str, dict[str, int]]


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
        baselines: dict[str, str | None] = tree["baselines"]
        for variant, baseline in baselines.items():
            if not isinstance(variant, str) or (baseline is not None and baseline not in baselines):
                raise ValueError(f"{variant!r} and its baseline {baseline!r} are no variants")
        return dict(baselines)


def read_metrics(folder: Path) -> pd.DataFrame:
    """Return the metrics of all finished runs of a comparison: variants in order, then seeds.

    Raises:
        SettingsError: if there are none; the message says which ones failed, and why.
    """
    tables = [
        read_run_metrics(run)
        for variant in read_comparison(folder)
        for run in runs_of(folder / variant)
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
        # One that was killed at its start has none; one that is finished is not without.
        written = [
            r for r in runs_of(folder / variant) if is_finished(r) or (r / SETTINGS).exists()
        ]
        for run in written[:1]:
            settings[variant] = comparable(read_saved_settings(run / SETTINGS))
    return settings


def read_versions(folder: Path) -> list[dict[str, str]]:
    """Return the versions that the finished runs were made with, each once."""
    versions: list[dict[str, str]] = []
    for variant in read_comparison(folder):
        for run in filter(is_finished, runs_of(folder / variant)):
            entries = read_run_versions(run / VERSIONS)
            versions += [entry for entry in entries if entry not in versions]
    return versions


def read_failures(folder: Path) -> dict[str, str]:
    """Return why runs failed, by their variant and seed: of those that were not run again since."""
    return {
        f"{variant}, seed {run.name.removeprefix('seed_')}": (
            (run / FAILURE).read_text(errors="replace").split("\n", 1)[0]
        )
        for variant in read_comparison(folder)
        for run in runs_of(folder / variant)
        if (run / FAILURE).exists()
    }


def read_counts(folder: Path) -> Counts:
    """Return how many classes and images each split has: none where nobody wrote it down."""
    tree = _read_splits(folder)
    return {name: counts for name, counts in tree.items() if name != OVERLAPS}


def read_overlaps(folder: Path) -> list[str]:
    """Return what splits share, a text for each two of them.

    Where nobody wrote it down, or another file of the same name did, the settings of the runs tell
    whether they may.
    """
    overlaps: list[str] = _read_splits(folder).get(OVERLAPS, [])
    if not overlaps and any(
        settings["data"].get("allow_overlap") for settings in _finished(folder)
    ):
        return ["their settings permit splits to share classes and images"]
    return overlaps


def _finished(folder: Path) -> Iterator[Tree]:
    """Give the settings of each finished run."""
    for variant in read_comparison(folder):
        for run in filter(is_finished, runs_of(folder / variant)):
            yield read_saved_settings(run / SETTINGS)


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


def _read_splits(folder: Path) -> Tree:
    path = folder / SPLITS
    if not path.exists():
        return {}
    advice = "Delete it: reports then leave these counts out."
    tree: Tree = _read_yaml(path, dict, advice)
    with undamaged(path, advice):
        for name, counts in tree.items():
            if name == OVERLAPS:
                if not (isinstance(counts, list) and all(isinstance(s, str) for s in counts)):
                    raise ValueError(f"its {OVERLAPS} are no list of texts")
            elif not all(type(counts[of]) is int for of in ("classes", "images")):
                raise ValueError(f"it has no counts of {name}")
    return tree


def _read_yaml(path: Path, kind: type, advice: str) -> Any:
    with undamaged(path, advice):
        tree = yaml.safe_load(path.read_text())
        if not isinstance(tree, kind):
            raise ValueError(f"it holds no {kind.__name__} but {tree!r}")
        return tree


def read_saved_settings(path: Path) -> Tree:
    """Return the settings of a run."""
    advice = f"Delete the folder {path.parent}: the command that made it makes it again."
    tree: Tree = _read_yaml(path, dict, advice)
    with undamaged(path, advice):
        if not isinstance(tree["data"], dict) or not isinstance(tree["variant"], str):
            raise ValueError("its data or its variant are no settings")
    return tree


def read_run_versions(path: Path) -> list[dict[str, str]]:
    """Return the versions that a run was made with: none before its first start."""
    if not path.exists():
        return []
    advice = "Delete it: reports then leave these versions out."
    versions: list[dict[str, str]] = _read_yaml(path, list, advice)
    with undamaged(path, advice):
        if not all(isinstance(entry, dict) for entry in versions):
            raise ValueError("it is no list of versions")
    return versions


def read_run_metrics(folder: Path, variant: str | None = None) -> pd.DataFrame:
    """Return the metrics of a finished run.

    Arguments:
        folder: of the run.
        variant: of the run, where the folder above is not named like it.

    Raises:
        SettingsError: if the file is damaged, or of another run.
    """
    path = folder / METRICS
    with undamaged(path, "Delete it: the command that made it makes this run again."):
        texts = dict.fromkeys(metrics.OF_TEXT, str)
        # A variant may be called "nan".
        table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""])
        of_folder, seed = run_of(folder)
        return metrics.checked(table, variant or of_folder, seed)


def comparable(settings: Tree) -> Tree:
    """Return what decides the figures of a run: all but its seed and the place of its data."""
    # That splits may share classes changes nothing of a run, nor does who reads its images.
    uncounted = ("allow_overlap", "workers")
    data = {key: value for key, value in settings["data"].items() if key not in uncounted}
    counting = {key: value for key, value in settings.items() if key not in ("variant", "seed")}
    return counting | {"data": _without_root(data, data.get("root")) | {"root": None}}


def _without_root(value: Any, root: str | None, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _without_root(item, root, name) for name, item in value.items()}
    if not root or not isinstance(value, str):
        return value
    # A word that happens to be that of the folder, such as `split: train`, is no path.
    is_root = value == root and (key == "root" or "/" in root)
    if is_root or value.startswith(f"{root}/"):
        return "${data.root}" + value.removeprefix(root)
    return value
