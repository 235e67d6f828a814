"""All trials of all variants, side by side."""

import sys
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml
from optuna.trial import Trial
from tqdm import tqdm

from benchmarks import distributed
from benchmarks.datasets.split_checks import overlaps
from benchmarks.datasets.splits import Splits
from benchmarks.errors import FailedRunsError, SettingsError
from benchmarks.results import data_marks, locks, paths, writing
from benchmarks.settings.reading import Comparison, describe
from benchmarks.settings.schema import Run
from benchmarks.training.compare import checked_splits
from benchmarks.training.workers import Workers
from benchmarks.tuning import saved
from benchmarks.tuning.space import Space, spaces_of
from benchmarks.tuning.study import JOURNAL, Study, open_storage
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
        SettingsError: if the results folder holds trials with other settings or data, another
            process is searching there, or something cannot be made as the settings say.
        FailedRunsError: if trials failed for another reason than what they tried.
    """
    folder, comparison = search.folder, search.comparison
    saved.check(folder, search.spaces, comparison.tune)
    with writing.writable(folder), locks.claimed(folder, search.spaces):
        if (folder / JOURNAL).exists() and _is_finished(studies_of(search)):
            return
        # Before anything is written: settings that cannot be made are going to be changed.
        splits = checked_splits(list(comparison.variants), comparison)
        data_marks.check_data(folder, search.spaces, splits.marks())
        writing.write_splits(folder, splits.counts(), overlaps(splits))
        saved.write(folder, search.spaces, comparison.tune)
        failures = _run(studies_of(search), splits, comparison)
    if failures:
        raise FailedRunsError(
            f"{len(failures)} trials failed: {'; '.join(failures)}. {paths.FAILURE} in the folder "
            "of each has the whole message. Once the cause is mended the same command runs them "
            "again, and them alone."
        )


def studies_of(search: Search) -> list[Study]:
    """Return the trials of each variant that there are."""
    folder, options = search.folder, search.comparison.tune
    storage = open_storage(folder)
    return [Study(space, options, folder, storage) for space in search.spaces.values()]


def _is_finished(studies: list[Study]) -> bool:
    return not any(study.remaining or _repeats(study) for study in studies)


def _run(studies: list[Study], splits: Splits, comparison: Comparison) -> list[str]:
    """Run what is not finished; return what failed."""
    processes, folder = comparison.parallel_runs, comparison.folder
    total = sum(study.budget for study in studies)
    finished = total - sum(study.remaining for study in studies)
    told = f"Trials: {total}, finished: {finished}, processes: {processes}, results in {folder}"
    print(told, file=sys.stderr)
    bar = tqdm(total=total, initial=finished, unit="trial", desc=folder.name, disable=False)
    with bar as progress, Workers(processes, splits, progress.set_description) as workers:
        failures = _search(studies, processes, workers, progress)
        return failures + _repeat_best(studies, workers)


def _search(studies: list[Study], processes: int, workers: Workers, progress: tqdm) -> list[str]:
    """Run trials; of one variant at a time no more than it takes to keep all processes at work.

    With no more processes than variants that are searched, each trial is chosen when all those
    before it are known: then the search is the same at every run.
    """
    failures = []
    running: dict[Future[None], tuple[Study, Trial]] = {}
    searched = [study for study in studies if study.space.dimensions]
    for study in studies * -(-processes // len(searched)):
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
        future = workers.submit(train, study.runs(trial, study.tune.seeds), folder, study.floors())
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
    if (best := study.best) is None:
        return []
    folder = study.trial_folder(best)
    seeds = [s for s in study.repeat_seeds if not paths.is_finished(seed_folder(folder, s))]
    return [(run, folder) for run in study.runs(best, seeds)]
