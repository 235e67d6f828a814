"""All runs of a comparison: side by side, or under torchrun one after another."""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tqdm import tqdm

from benchmarks import distributed
from benchmarks.datasets.split_checks import check_splits, overlaps
from benchmarks.datasets.splits import Splits
from benchmarks.errors import FailedRunsError, SettingsError
from benchmarks.processes import cores
from benchmarks.results import changes, data_marks, locks, paths, writing
from benchmarks.results.examples import save_examples
from benchmarks.settings.described import load_splits
from benchmarks.settings.reading import Comparison
from benchmarks.settings.schema import Run
from benchmarks.training import first_images
from benchmarks.training.assembly import Parts
from benchmarks.training.run import execute
from benchmarks.training.workers import Workers, ignore_captions


def compare(comparison: Comparison) -> None:
    """Run what is not finished yet, or go on with it.

    Raises:
        SettingsError: if the results folder holds a run with other settings or data, another
            process is running one of the variants, or something cannot be made as the settings
            say: then nothing is run.
        FailedRunsError: if runs failed; the message says which. The others are finished first.
            Under torchrun its own error ends it all.
    """
    runs = distributed.from_rank_0(partial(_unfinished, comparison, comparison.runs))
    if distributed.rank() == 0:
        _announce(runs, comparison)
    splits = checked_splits(runs, comparison) if runs else None
    with writing.writable(comparison.folder), ExitStack() as held:
        runs = distributed.from_rank_0(partial(_start, comparison, runs, splits, held))
        if not runs:
            return
        execute_all = _execute_side_by_side if distributed.world_size() == 1 else _execute_in_turn
        failures = execute_all(runs, splits, comparison)
        if distributed.rank() == 0:
            save_examples(comparison.folder, comparison.baselines, splits)
    if failures:
        raise FailedRunsError(
            f"{len(failures)} of {len(runs)} runs failed: {'; '.join(failures)}. The report says "
            f"why, and {paths.FAILURE} in the folder of each run has the whole message. Once the "
            "cause is mended the same command runs them again, and them alone."
        )


def read_data(comparison: Comparison) -> Splits:
    """Read the datasets.

    Raises:
        SettingsError: if they cannot be read, share classes or images without permission, or have
            nothing to retrieve; the message names the file.
    """
    data = comparison.variants[0].data
    try:
        splits = load_splits(data)
        check_splits(splits, data.allow_overlap)
        return splits
    except SettingsError as error:
        raise SettingsError(f"{comparison.source}: {error}") from error


def check(comparison: Comparison, splits: Splits) -> None:
    """Find what `compare` would refuse.

    Raises:
        SettingsError: if a variant cannot be built, or the results folder holds a run with other
            settings or data.
    """
    changes.check_settings(comparison.folder, comparison.variants)
    _check_data(comparison, splits)
    _build_each(comparison.runs, splits, comparison.source)
    _tell_what_is_not_compared(comparison.baselines)


def checked_splits(runs: Sequence[Run], comparison: Comparison) -> Splits:
    """Read the datasets, and build each variant once to see that all of them can be built.

    Raises:
        SettingsError: if something cannot be made as the settings say; the message names the file.
    """
    splits = read_data(comparison)
    _build_each(runs, splits, comparison.source)
    return splits


def _check_data(comparison: Comparison, splits: Splits) -> None:
    # Also of variants that are not run now: all of them are in one table.
    data_marks.check_data(comparison.folder, comparison.baselines, splits.marks())


def _build_each(runs: Sequence[Run], splits: Splits, source: str) -> None:
    for run in {run.variant: run for run in runs}.values():
        try:
            first_images.check(Parts(run, splits))
        except SettingsError as error:
            raise SettingsError(f"{source}: variant {run.variant}: {error}") from error


def _announce(runs: list[Run], comparison: Comparison) -> None:
    """Say what comes, before the data and the processes take their time."""
    alone = distributed.world_size() == 1
    processes = min(comparison.parallel_runs, len(runs)) if alone else distributed.world_size()
    finished = len(comparison.runs) - len(runs)
    print(
        f"Runs: {len(comparison.runs)}, finished: {finished}, processes: {processes}, results in "
        f"{comparison.folder}",
        file=sys.stderr,
    )
    if (workers := comparison.variants[0].data.workers) > cores():
        print(
            f"data.workers: {workers} is more than the {cores()} cores: {cores()} read ahead.",
            file=sys.stderr,
        )
    _tell_what_is_not_compared(comparison.baselines)


def _tell_what_is_not_compared(baselines: Mapping[str, str | None]) -> None:
    """Name variants whose baseline, by their names, is not there: it may be a slip of the pen."""
    for variant, baseline in baselines.items():
        plain, *method = variant.split("+")
        if method and baseline is None:
            print(
                f"{variant} is compared with nothing: there is no variant {plain!r}, and no "
                "`baseline` is given.",
                file=sys.stderr,
            )


def _unfinished(comparison: Comparison, runs: list[Run]) -> list[Run]:
    folder = comparison.folder
    changes.check_settings(folder, comparison.variants)
    return [run for run in runs if not paths.is_finished(paths.run_folder(folder, run))]


def _start(
    comparison: Comparison, runs: list[Run], splits: Splits | None, held: ExitStack
) -> list[Run]:
    """Claim the variants and write down what is compared; return the runs that are left to do."""
    folder = comparison.folder
    if splits is not None:
        _check_data(comparison, splits)
    held.enter_context(locks.claimed(folder, {run.variant: None for run in runs}))
    # Another command may have run some of them before they were claimed.
    left = _unfinished(comparison, runs)
    # What trains on all classes has no figures to compare.
    if not comparison.variants[0].data.all_classes:
        writing.write_comparison(folder, comparison.baselines)
    if splits is not None:
        writing.write_splits(folder, splits.counts(), overlaps(splits))
    return left


def _execute_in_turn(runs: list[Run], splits: Splits, comparison: Comparison) -> list[str]:
    with _progress_bar(runs, comparison.folder) as progress:
        ignore_captions()
        for run in runs:
            _execute(splits, partial(_advance, progress), run, comparison.folder)
    return []  # A failure ends it.


def _execute_side_by_side(runs: list[Run], splits: Splits, comparison: Comparison) -> list[str]:
    """Return which runs failed."""
    folder = comparison.folder
    count = min(comparison.parallel_runs, len(runs))
    failures = []
    with (
        _progress_bar(runs, folder) as progress,
        Workers(count, splits, partial(_advance, progress)) as workers,
    ):
        futures = {workers.submit(_execute, run, folder): run for run in runs}
        for future in as_completed(futures):
            if (error := future.exception()) is not None:
                run = futures[future]
                failures.append(f"{run.variant}, seed {run.seed}")
                writing.write_failure(paths.run_folder(folder, run), error)
    return failures


def _progress_bar(runs: list[Run], folder: Path) -> tqdm:
    # A run counts its epochs, and one more for the test at its end.
    total = sum(run.epochs + 1 for run in runs)
    shown = distributed.rank() == 0
    return tqdm(total=total, unit="epoch", desc=folder.name, disable=not shown)


def _advance(progress: tqdm, description: str) -> None:
    with progress.get_lock():
        progress.set_description(description, refresh=False)
        progress.update()


def _execute(splits: Splits, advance: Callable[[str], None], run: Run, folder: Path) -> None:
    name = f"{run.variant}, seed {run.seed}"

    def report(epoch: int) -> None:
        advance(f"{name}, epoch {epoch}/{run.epochs}")

    with writing.writable(folder):
        execute(run, splits, paths.run_folder(folder, run), report)
    advance(f"{name}, done")
