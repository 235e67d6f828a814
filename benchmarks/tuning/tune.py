"""All trials of all variants, side by side."""

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml
from optuna.trial import Trial
from tqdm import tqdm

from benchmarks import distributed
from benchmarks.errors import FailedRunsError, SettingsError
from benchmarks.results import locks, paths, writing
from benchmarks.settings.reading import Comparison, describe
from benchmarks.settings.schema import Run
from benchmarks.training.assembly import Splits
from benchmarks.training.compare import checked_splits
from benchmarks.training.split_checks import overlaps
from benchmarks.training.workers import Workers
from benchmarks.tuning import saved
from benchmarks.tuning.space import Space, spaces_of
from benchmarks.tuning.study import Study, open_storage
from benchmarks.tuning.trials import seed_folder, train


@dataclass(frozen=True)
class Search:
    """What is searched, and where the results go.

    Arguments:
        comparison: the settings file, its variants without test classes.
        spaces: what is searched in each variant.
    """

    comparison: Comparison
    spaces: Mapping[str, Space]

    @property
    def folder(self) -> Path:
        """Where the results go: beside those of `compare`."""
        return self.comparison.folder


def plan(comparison: Comparison) -> Search:
    """Return what a settings file says to search.

    Raises:
        SettingsError: if it says nothing, or something wrong, see `spaces_of`.
    """
    if distributed.world_size() > 1:
        raise SettingsError(
            "tune runs without torchrun: trials go side by side in parallel_runs processes."
        )
    spaces = spaces_of(comparison)
    folder = comparison.folder.with_name(f"{comparison.folder.name}_tuning")
    variants = tuple(space.run for space in spaces.values())
    return Search(replace(comparison, folder=folder, variants=variants), spaces)


def describe_search(search: Search) -> str:
    """Write all that is searched, and the settings of the variants, as YAML."""
    options = asdict(search.comparison.tune)
    del options["ranges"]
    variants = {name: saved.described_ranges(space) for name, space in search.spaces.items()}
    tree = {"tune": options | {"variants": variants}}
    return describe(search.comparison) + yaml.safe_dump(tree, sort_keys=False)


def tune(search: Search) -> None:
    """Run the trials that are not finished yet, and repeat the best ones.

    Raises:
        SettingsError: if the results folder holds trials with other settings, another process is
            searching there, or something cannot be made as the settings say.
        FailedRunsError: if trials failed for another reason than what they tried.
    """
    folder, options = search.folder, search.comparison.tune
    saved.check(folder, search.spaces, options)
    with writing.writable(folder), locks.claimed(folder, search.spaces):
        saved.write(folder, search.spaces, options)
        storage = open_storage(folder)
        studies = [Study(space, options, folder, storage) for space in search.spaces.values()]
        failures = _run(studies, search.comparison)
    if failures:
        raise FailedRunsError(
            f"{len(failures)} trials failed: {'; '.join(failures)}. {paths.FAILURE} in the folder "
            "of each has the whole message. Once the cause is mended the same command runs them "
            "again, and them alone."
        )


def _run(studies: list[Study], comparison: Comparison) -> list[str]:
    """Run what is not finished; return what failed."""
    remaining = sum(study.remaining for study in studies)
    total = sum(study.budget for study in studies)
    print(
        f"Trials: {total}, finished: {total - remaining}, processes: {comparison.parallel_runs}, "
        f"results in {comparison.folder}",
        file=sys.stderr,
    )
    if not remaining and not any(_repeats(study) for study in studies):
        return []
    splits = checked_splits(list(comparison.variants), comparison)
    writing.write_splits(comparison.folder, splits.counts(), overlaps(splits))
    with _workers(studies, splits, comparison) as (workers, progress):
        failures = _search(studies, comparison.parallel_runs, workers, progress)
        return failures + _repeat_best(studies, workers)


@contextmanager
def _workers(
    studies: list[Study], splits: Splits, comparison: Comparison
) -> Iterator[tuple[Workers, tqdm]]:
    total = sum(study.budget for study in studies)
    finished = total - sum(study.remaining for study in studies)
    bar = tqdm(
        total=total, initial=finished, unit="trial", desc=comparison.folder.name, disable=False
    )
    with bar as progress, Workers(comparison.parallel_runs, splits, progress.set_description) as w:
        yield w, progress


def _search(studies: list[Study], processes: int, workers: Workers, progress: tqdm) -> list[str]:
    """Run trials; of one variant at a time no more than it takes to keep all processes at work.

    With a process for each variant or fewer, each trial is chosen when all those before it are
    known: then the search is the same at every run.
    """
    failures = []
    running: dict[Future[None], tuple[Study, Trial]] = {}
    for study in [study for study in studies if study.remaining] * -(-processes // len(studies)):
        _start(study, workers, running)
    while running:
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            study, trial = running.pop(future)
            if study.finish(trial, future.exception()):
                progress.update()
            else:
                failures.append(f"{study.variant}, trial {trial.number}")
            _start(study, workers, running)
    return failures


def _start(
    study: Study, workers: Workers, running: dict[Future[None], tuple[Study, Trial]]
) -> None:
    if study.remaining:
        trial = study.start()
        folder = study.trial_folder(trial)
        future = workers.submit(train, study.runs(trial), folder, study.floors())
        running[future] = study, trial


def _repeat_best(studies: list[Study], workers: Workers) -> list[str]:
    failures = []
    futures = {
        workers.submit(train, [run], folder, {}): (run, folder)
        for study in studies
        for run, folder in _repeats(study)
    }
    for future, (run, folder) in futures.items():
        if (error := future.exception()) is not None:
            writing.write_failure(seed_folder(folder, run.seed), error)
            failures.append(f"{run.variant}, {folder.name} repeated with seed {run.seed}")
    return failures


def _repeats(study: Study) -> list[tuple[Run, Path]]:
    """The runs of the best trial with more seeds that are not finished, and the trial's folder."""
    if not study.space.dimensions or (best := study.best) is None:
        return []
    folder = study.trial_folder(best)
    return [
        (run, folder)
        for run in study.repeats(best)
        if not paths.is_finished(seed_folder(folder, run.seed))
    ]
