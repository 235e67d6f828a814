"""All runs of a comparison: side by side, or under torchrun one after another."""

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from functools import partial, partialmethod
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from tqdm import tqdm

from benchmarks import distributed
from benchmarks.errors import SettingsError
from benchmarks.results import folder as results
from benchmarks.settings.reading import Comparison
from benchmarks.settings.schema import Run
from benchmarks.training.assembly import Parts, Splits, load_splits
from benchmarks.training.run import execute

_splits: Splits  # of a worker process
_finished_epochs: "SimpleQueue[str | None]"


def compare(comparison: Comparison) -> None:
    """Run what is not finished yet, or go on with it.

    Raises:
        SettingsError: if the results folder holds a run with other settings, another process is
            running one of the variants, or something cannot be made as the settings say: then
            nothing is run.
        RuntimeError: if a run failed; the message says which. The others are finished first.
            Under torchrun its own error ends it all.
    """
    runs = distributed.from_rank_0(partial(_unfinished, comparison))
    if distributed.rank() == 0:
        _announce(runs, comparison)
    splits = _checked_splits(runs, comparison) if runs else None
    with ExitStack() as held:
        claimed = results.claimed(comparison.folder, {run.variant: None for run in runs})
        distributed.from_rank_0(lambda: held.enter_context(claimed))
        if distributed.rank() == 0:
            results.write_comparison(comparison.folder, comparison.baselines)
        if splits is not None:
            if distributed.rank() == 0:
                results.write_counts(comparison.folder, splits.counts())
            execute_all = (
                _execute_side_by_side if distributed.world_size() == 1 else _execute_in_turn
            )
            execute_all(runs, splits, comparison)


def read_data(comparison: Comparison) -> Splits:
    """Read the datasets.

    Raises:
        SettingsError: if they cannot be read; the message names the file.
    """
    try:
        return load_splits(comparison.variants[0].data)
    except SettingsError as error:
        raise SettingsError(f"{comparison.source}: {error}") from error


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


def _unfinished(comparison: Comparison) -> list[Run]:
    folder = comparison.folder
    results.check_settings(folder, comparison.variants)
    return [
        run for run in comparison.runs if not results.is_finished(results.run_folder(folder, run))
    ]


def _checked_splits(runs: list[Run], comparison: Comparison) -> Splits:
    """Read the datasets, and build each variant once to see that all of them can be built."""
    splits = read_data(comparison)
    for run in {run.variant: run for run in runs}.values():
        try:
            Parts(run, splits)
        except SettingsError as error:
            where = f"{comparison.source}: variant {run.variant}"
            raise SettingsError(f"{where}: {error}") from error
    return splits


def _execute_in_turn(runs: list[Run], splits: Splits, comparison: Comparison) -> None:
    with _progress_bar(runs, comparison.folder) as progress:
        _draw_no_other_bars()
        for run in runs:
            _execute(run, splits, comparison.folder, partial(_advance, progress))


def _execute_side_by_side(runs: list[Run], splits: Splits, comparison: Comparison) -> None:
    context = multiprocessing.get_context("spawn")
    epochs: SimpleQueue[str | None] = context.SimpleQueue()
    failures = {}
    with (
        _progress_bar(runs, comparison.folder) as progress,
        ProcessPoolExecutor(
            max_workers=min(comparison.parallel_runs, len(runs)),
            mp_context=context,
            initializer=_start_worker,
            # Read once; torch shares the memory of tensors between processes.
            initargs=(splits, epochs),
        ) as pool,
    ):
        watcher = threading.Thread(target=_watch, args=(progress, epochs), daemon=True)
        watcher.start()
        futures = {pool.submit(_execute_in_worker, run, comparison.folder): run for run in runs}
        try:
            for future in as_completed(futures):
                run = futures[future]
                if future.exception() is not None:
                    failures[f"{run.variant}, seed {run.seed}"] = future.exception()
        except KeyboardInterrupt:
            # It may have come to this process alone; what the others are at is resumed.
            for worker in multiprocessing.active_children():
                worker.terminate()
            pool.shutdown(cancel_futures=True)
            raise
        epochs.put(None)
        watcher.join()
    if failures:
        first = next(iter(failures.values()))
        raise RuntimeError(f"Failed: {'; '.join(failures)}. The first: {first!r}") from first


def _progress_bar(runs: list[Run], folder: Path) -> tqdm:
    # A run counts its epochs, and one more for the test at its end.
    total = sum(run.epochs + 1 for run in runs)
    shown = distributed.rank() == 0
    return tqdm(total=total, unit="epoch", desc=folder.name, disable=not shown)


def _watch(progress: tqdm, epochs: "SimpleQueue[str | None]") -> None:
    while (description := epochs.get()) is not None:
        _advance(progress, description)


def _advance(progress: tqdm, description: str) -> None:
    progress.set_description(description, refresh=False)
    progress.update()


def _execute(run: Run, splits: Splits, folder: Path, advance: Callable[[str], None]) -> None:
    name = f"{run.variant}, seed {run.seed}"

    def report(epoch: int) -> None:
        advance(f"{name}, epoch {epoch}/{run.epochs}")

    execute(run, splits, results.run_folder(folder, run), report)
    advance(f"{name}, done")


def _start_worker(splits: Splits, epochs: "SimpleQueue[str | None]") -> None:
    global _splits, _finished_epochs
    _splits, _finished_epochs = splits, epochs
    # Interrupted from the keyboard, or left without a parent, a worker ends at once: what is
    # resumed must not meet a worker that is still writing.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _draw_no_other_bars()


def _draw_no_other_bars() -> None:
    # PML's trainers and testers draw bars of their own, with a warning of torch about their
    # captions; here there is one bar over all runs.
    tqdm.__init__ = partialmethod(tqdm.__init__, disable=True)
    warnings.filterwarnings("ignore", "Converting a tensor with requires_grad")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _execute_in_worker(run: Run, folder: Path) -> None:
    _execute(run, _splits, folder, _finished_epochs.put)
