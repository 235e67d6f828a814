"""A trial: runs of one variant that differ in nothing but their seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.datasets.splits import Splits
from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.results import paths, reading
from benchmarks.settings.schema import Run
from benchmarks.training.run import execute
from benchmarks.tuning.pruning import Floors

NEVER = Floors({})


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Arguments:
        value: MAP@R on validation classes at the best epoch, the mean over seeds.
        epoch: that epoch, the mean over seeds.
        seconds: of all seeds together.
        epochs: that were trained, of all seeds together.
        pruned: whether a run ended early.
    """

    value: float
    epoch: float
    seconds: float
    epochs: int
    pruned: bool


def trial_folder(folder: Path, variant: str, number: int) -> Path:
    """Return the folder of a trial."""
    return folder / variant / f"trial_{number:03}"


def seed_folder(trial: Path, seed: int) -> Path:
    """Return the folder of one run of a trial."""
    return trial / f"seed_{seed}"


def train(
    splits: Splits,
    advance: Callable[[str], None],
    runs: Sequence[Run],
    folder: Path,
    floors: Mapping[int, Floors],
) -> None:
    """Train the runs of a trial in turn, until one falls behind; what is finished stays.

    Arguments:
        splits: the datasets, without test classes.
        advance: called with what is going on.
        runs: one for each seed.
        folder: of the trial.
        floors: by seed, what a run must not fall below.
    """
    for run in runs:
        own = seed_folder(folder, run.seed)
        name = f"{run.variant}, {folder.name}, seed {run.seed}"

        def report(epoch: int, name: str = name, epochs: int = run.epochs) -> None:
            advance(f"{name}, epoch {epoch}/{epochs}")

        if not paths.is_finished(own):
            execute(run, splits, own, report, floors.get(run.seed, NEVER))
            # There may be hundreds of trials, and weights are large.
            for name_of_file in (paths.MODELS, paths.VIEW):
                (own / name_of_file).unlink(missing_ok=True)
        if _is_pruned(read_metrics(own), run.epochs):
            return


def read_metrics(folder: Path) -> pd.DataFrame:
    """Return the metrics of a finished run of a trial, in `<variant>/<trial>/<seed>`."""
    return reading.read_run_metrics(folder, folder.parents[1].name)


def outcome(folder: Path, seeds: Sequence[int], epochs: int) -> Outcome:
    """Return what came of a trial.

    Arguments:
        folder: of the trial.
        seeds: of its runs; after one that was pruned there are no more.
        epochs: how many a run has that was not pruned.
    """
    folders = [seed_folder(folder, seed) for seed in seeds]
    tables = [read_metrics(own) for own in folders if paths.is_finished(own)]
    best = pd.DataFrame([table.loc[table[MAIN_METRIC].idxmax()] for table in tables])
    return Outcome(
        value=float(best[MAIN_METRIC].mean()),
        epoch=float(best["epoch"].mean()),
        seconds=float(sum(table["seconds"].max() for table in tables)),
        epochs=int(sum(table["epoch"].max() for table in tables)),
        pruned=any(_is_pruned(table, epochs) for table in tables),
    )


def _is_pruned(history: pd.DataFrame, epochs: int) -> bool:
    return int(history["epoch"].max()) < epochs
