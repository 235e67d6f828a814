"""All runs of a comparison, side by side in as many processes as there are cores."""

import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partialmethod
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from benchmarks import results
from benchmarks.run import Splits, execute, load_splits
from benchmarks.settings import Comparison, Run
from benchmarks.summary import summarize

_splits: Splits  # of a worker process


def compare(comparison: Comparison) -> pd.DataFrame:
    """Run what is not finished yet; write results.csv and summary.csv.

    Returns:
        The summary, a row for each variant.

    Raises:
        SettingsError: if the results folder holds a run with other settings.
        RuntimeError: if a run failed; the message says which. The others are finished first.
    """
    folder = comparison.folder
    unfinished = [
        run
        for run in comparison.runs
        if not results.is_finished(results.run_folder(folder, run), run)
    ]
    if unfinished:
        _execute_all(unfinished, comparison)
    table = results.read(folder, comparison.runs)
    summary = summarize(table)
    results.write_table(table, folder / "results.csv")
    results.write_table(summary, folder / "summary.csv")
    return summary


def _execute_all(runs: list[Run], comparison: Comparison) -> None:
    failures = {}
    with (
        tqdm(total=len(comparison.runs), initial=len(comparison.runs) - len(runs)) as progress,
        ProcessPoolExecutor(
            max_workers=min(comparison.workers, len(runs)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            # Read once; torch shares the memory of tensors between processes.
            initargs=(load_splits(runs[0].data),),
        ) as pool,
    ):
        futures = {pool.submit(_execute_in_worker, run, comparison.folder): run for run in runs}
        for future in as_completed(futures):
            run = futures[future]
            progress.update()
            progress.set_description(f"{run.variant}, seed {run.seed}")
            if future.exception() is not None:
                failures[f"{run.variant}, seed {run.seed}"] = future.exception()
    if failures:
        first = next(iter(failures.values()))
        raise RuntimeError(f"Failed: {'; '.join(failures)}. The first: {first!r}") from first


def _start_worker(splits: Splits) -> None:
    global _splits
    _splits = splits
    # PML's trainers and testers draw bars of their own, with a warning of torch about their
    # captions; here there is one bar over all runs.
    tqdm.__init__ = partialmethod(tqdm.__init__, disable=True)
    warnings.filterwarnings("ignore", "Converting a tensor with requires_grad")


def _execute_in_worker(run: Run, folder: Path) -> None:
    execute(run, _splits, results.run_folder(folder, run))
