"""All runs of a comparison: side by side, or under torchrun one after another."""

import multiprocessing
import queue
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from benchmarks import distributed
from benchmarks.errors import FailedRunsError, KilledRunError, SettingsError
from benchmarks.processes import cores, end_with_parent, start_method
from benchmarks.results import changes, locks, paths, writing
from benchmarks.settings.reading import Comparison
from benchmarks.settings.schema import Run
from benchmarks.training import split_checks
from benchmarks.training.assembly import Parts, Splits, load_splits
from benchmarks.training.run import execute
from benchmarks.training.split_checks import overlaps

_context = multiprocessing.get_context(start_method(__name__))
_splits: Splits  # of a worker process
_finished_epochs: "SimpleQueue[str | None]"


def compare(comparison: Comparison) -> None:
    """Run what is not finished yet, or go on with it.

    Raises:
        SettingsError: if the results folder holds a run with other settings, another process is
            running one of the variants, or something cannot be made as the settings say: then
            nothing is run.
        FailedRunsError: if runs failed; the message says which. The others are finished first.
            Under torchrun its own error ends it all.
    """
    runs = distributed.from_rank_0(partial(_unfinished, comparison, comparison.runs))
    if distributed.rank() == 0:
        _announce(runs, comparison)
    splits = _checked_splits(runs, comparison) if runs else None
    with writing.writable(comparison.folder), ExitStack() as held:
        claimed = locks.claimed(comparison.folder, {run.variant: None for run in runs})
        distributed.from_rank_0(lambda: held.enter_context(claimed))
        # Another command may have run some of them before they were claimed.
        runs = distributed.from_rank_0(partial(_unfinished, comparison, runs))
        if distributed.rank() == 0:
            writing.write_comparison(comparison.folder, comparison.baselines)
        if runs and splits is not None:
            if distributed.rank() == 0:
                writing.write_splits(comparison.folder, splits.counts(), overlaps(splits))
            execute_all = (
                _execute_side_by_side if distributed.world_size() == 1 else _execute_in_turn
            )
            execute_all(runs, splits, comparison)


def read_data(comparison: Comparison) -> Splits:
    """Read the datasets.

    Raises:
        SettingsError: if they cannot be read, share classes or images without permission, or have
            nothing to retrieve; the message names the file.
    """
    data = comparison.variants[0].data
    try:
        splits = load_splits(data)
        split_checks.check(splits, data.allow_overlap)
        return splits
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
    if (workers := comparison.variants[0].data.workers) > cores():
        print(
            f"data.workers: {workers} is more than the {cores()} cores: {cores()} read ahead.",
            file=sys.stderr,
        )


def _unfinished(comparison: Comparison, runs: list[Run]) -> list[Run]:
    folder = comparison.folder
    changes.check_settings(folder, comparison.variants)
    return [run for run in runs if not paths.is_finished(paths.run_folder(folder, run))]


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
        _ignore_captions()
        for run in runs:
            _execute(run, splits, comparison.folder, partial(_advance, progress))


def _execute_side_by_side(runs: list[Run], splits: Splits, comparison: Comparison) -> None:
    folder = comparison.folder
    count = min(comparison.parallel_runs, len(runs))
    failures = []
    with _progress_bar(runs, folder) as progress, ThreadPoolExecutor(count) as threads:
        workers = _Workers(count, splits, progress)
        futures = {threads.submit(workers.execute, run, folder): run for run in runs}
        try:
            for future in as_completed(futures):
                if (error := future.exception()) is not None:
                    run = futures[future]
                    failures.append(f"{run.variant}, seed {run.seed}")
                    writing.write_failure(paths.run_folder(folder, run), error)
        except BaseException:
            # An interrupt may have come to this process alone; what the others are at is resumed.
            threads.shutdown(wait=False, cancel_futures=True)
            while not all(future.done() for future in futures):
                for process in multiprocessing.active_children():
                    process.terminate()
                time.sleep(0.1)
            raise
        finally:
            workers.shutdown()
    if failures:
        raise FailedRunsError(
            f"{len(failures)} of {len(runs)} runs failed: {'; '.join(failures)}. The report says "
            f"why, and {paths.FAILURE} in the folder of each run has the whole message. Once the "
            "cause is mended the same command runs them again, and them alone."
        )


class _Worker(NamedTuple):
    """A process, and what it says of its epochs.

    By a queue of its own: if it is killed while it writes there, that queue stays locked.
    """

    pool: ProcessPoolExecutor
    epochs: "SimpleQueue[str | None]"
    watcher: threading.Thread

    @classmethod
    def of(cls, splits: Splits, progress: tqdm) -> "_Worker":
        """Start a process, once it is given something to do."""
        epochs: SimpleQueue[str | None] = _context.SimpleQueue()
        watcher = threading.Thread(target=_watch, args=(progress, epochs), daemon=True)
        watcher.start()
        given = (splits, epochs)
        pool = ProcessPoolExecutor(1, _context, initializer=_start_worker, initargs=given)
        return cls(pool, epochs, watcher)

    def shutdown(self) -> None:
        """End the process, which is free."""
        self.pool.shutdown()
        self.epochs.put(None)
        self.watcher.join()


class _Workers:
    """Processes that execute a run at a time; one that is killed takes no other run with it.

    Arguments:
        count: the number of processes.
        splits: the datasets. Read once; torch shares the memory of tensors between processes.
        progress: shows each finished epoch.
    """

    def __init__(self, count: int, splits: Splits, progress: tqdm) -> None:
        self._start = partial(_Worker.of, splits, progress)
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._count = count
        for _ in range(count):
            self._idle.put(self._start())

    def execute(self, run: Run, folder: Path) -> None:
        """Execute a run in the first process that is free."""
        worker = self._idle.get()
        try:
            worker.pool.submit(_execute_in_worker, run, folder).result()
        except BrokenProcessPool as error:
            worker = self._start()
            raise KilledRunError(
                "The process of this run was killed, as happens where memory runs out: fewer "
                "parallel_runs, data.workers or a smaller batch_size need less. The same command "
                "goes on after the last epoch that the run finished."
            ) from error
        finally:
            self._idle.put(worker)

    def shutdown(self) -> None:
        """End the processes, which are all free."""
        for _ in range(self._count):
            self._idle.get().shutdown()


def _progress_bar(runs: list[Run], folder: Path) -> tqdm:
    # A run counts its epochs, and one more for the test at its end.
    total = sum(run.epochs + 1 for run in runs)
    shown = distributed.rank() == 0
    return tqdm(total=total, unit="epoch", desc=folder.name, disable=not shown)


def _watch(progress: tqdm, epochs: "SimpleQueue[str | None]") -> None:
    while (description := epochs.get()) is not None:
        _advance(progress, description)


def _advance(progress: tqdm, description: str) -> None:
    with progress.get_lock():
        progress.set_description(description, refresh=False)
        progress.update()


def _execute(run: Run, splits: Splits, folder: Path, advance: Callable[[str], None]) -> None:
    name = f"{run.variant}, seed {run.seed}"

    def report(epoch: int) -> None:
        advance(f"{name}, epoch {epoch}/{run.epochs}")

    with writing.writable(folder):
        execute(run, splits, paths.run_folder(folder, run), report)
    advance(f"{name}, done")


def _start_worker(splits: Splits, epochs: "SimpleQueue[str | None]") -> None:
    global _splits, _finished_epochs
    _splits, _finished_epochs = splits, epochs
    # Interrupted from the keyboard, or left without a parent, a worker ends at once: what is
    # resumed must not meet a worker that is still writing. A job of a script may ignore it.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()
    _ignore_captions()


def _ignore_captions() -> None:
    # torch warns about the captions of PML's bars, which are not drawn (see __main__.py).
    warnings.filterwarnings("ignore", "Converting a tensor with requires_grad")


def _execute_in_worker(run: Run, folder: Path) -> None:
    _execute(run, _splits, folder, _finished_epochs.put)
