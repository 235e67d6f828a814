"""The results folder of a comparison: one folder for each finished run, and nothing half done.

results.csv and summary.csv stand beside the folders <variant>/seed_<n>/, each of which holds
settings.yaml, metrics.csv and logs/.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import unified_diff
from pathlib import Path

import pandas as pd

from benchmarks.errors import SettingsError
from benchmarks.settings import Run, dump

SETTINGS = "settings.yaml"
METRICS = "metrics.csv"


def run_folder(folder: Path, run: Run) -> Path:
    """Return the folder of a run in that of its comparison."""
    return folder / run.variant / f"seed_{run.seed}"


def is_finished(folder: Path, run: Run) -> bool:
    """Tell whether the folder holds the results of this run.

    Raises:
        SettingsError: if it holds those of a run with other settings; the message shows which.
    """
    if not (folder / METRICS).exists():
        return False
    there = (folder / SETTINGS).read_text()
    asked = dump(run)
    if there != asked:
        lines = unified_diff(there.splitlines(), asked.splitlines(), "there", "asked for", n=2)
        raise SettingsError(
            f"{folder} holds a run with other settings. Give the comparison another name "
            "(name=...) or delete that folder.\n" + "\n".join(line.rstrip() for line in lines)
        )
    return True


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Give a folder to write to, which takes its place only when all was written."""
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(unfinished, folder)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV file aside, then move it into place."""
    unfinished = path.with_name(path.name + ".unfinished")
    table.to_csv(unfinished, index=False)
    os.replace(unfinished, path)


def read(folder: Path, runs: Sequence[Run]) -> pd.DataFrame:
    """Return the metrics of finished runs, a row for each."""
    tables = [pd.read_csv(run_folder(folder, run) / METRICS) for run in runs]
    return pd.concat(tables, ignore_index=True)
