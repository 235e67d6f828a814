"""The search of one variant: Optuna's study, and what the runner does with it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import optuna
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from benchmarks.errors import SettingsError
from benchmarks.results import reading, writing
from benchmarks.results.paths import FAILURE
from benchmarks.seeding import derived_seed
from benchmarks.settings.schema import Run, Tune
from benchmarks.tuning.pruning import Floors, median_floors
from benchmarks.tuning.space import Space, Values
from benchmarks.tuning.trials import Outcome, outcome, read_metrics, seed_folder, trial_folder

JOURNAL = "study.log"
VALUES = "values"  # as they were run, rounded
REASON = "reason"


def open_storage(folder: Path) -> JournalStorage:
    """Open Optuna's file in a results folder, which is of this process alone.

    Raises:
        SettingsError: if the file is damaged.
    """
    path = folder / JOURNAL
    _drop_unfinished_line(path)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with reading.undamaged(path, f"Delete {folder}: the same command then starts again."):
        return JournalStorage(JournalFileBackend(str(path)))


def _drop_unfinished_line(path: Path) -> None:
    """Drop what a killed process was writing: Optuna would append to it."""
    if path.exists() and not (written := path.read_bytes()).endswith(b"\n"):
        path.write_bytes(written[: written.rfind(b"\n") + 1])


class Study:
    """The trials of a variant.

    Arguments:
        space: what is searched.
        tune: how.
        folder: of the results.
        storage: Optuna's.
    """

    def __init__(self, space: Space, tune: Tune, folder: Path, storage: JournalStorage) -> None:
        self.space, self.tune, self.folder = space, tune, folder
        # There is nothing to repeat where nothing is searched.
        self.budget = tune.trials if space.dimensions else 1
        self._study = optuna.create_study(
            study_name=self.variant, storage=storage, direction="maximize", load_if_exists=True
        )
        if not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(space.given)
        self._interrupted = [trial for trial in self.trials if trial.state == TrialState.RUNNING]

    @property
    def variant(self) -> str:
        """Its name."""
        return self.space.run.variant

    @property
    def remaining(self) -> int:
        """How many trials are to be run, or to be gone on with."""
        started = [trial for trial in self.trials if trial.state != TrialState.WAITING]
        return self.budget - len(started) + len(self._interrupted)

    @property
    def trials(self) -> list[FrozenTrial]:
        """Those that count: as many of the first as for any other variant."""
        return self._study.get_trials()[: self.budget]

    @property
    def finished(self) -> list[FrozenTrial]:
        """Those that were trained to the end."""
        return [trial for trial in self.trials if trial.state == TrialState.COMPLETE]

    @property
    def best(self) -> FrozenTrial | None:
        """The best of these, if there is one."""
        return max(self.finished, key=lambda trial: trial.value, default=None)

    def start(self) -> Trial:
        """Return the next trial, those that were interrupted first; see `remaining`.

        What is tried depends on `search_seed`, the number of the trial and those before it.
        """
        number = len(self._study.get_trials(deepcopy=False, states=_STARTED))
        if self._interrupted:
            trial = self._resumed(self._interrupted.pop(0))
        else:
            self._study.sampler = TPESampler(seed=derived_seed(self.tune.search_seed, number))
            trial = self._study.ask()
        suggested = {d.name: d.range.suggest(trial, d.name) for d in self.space.dimensions}
        # The first is what is given in all its digits.
        trial.set_user_attr(VALUES, suggested if trial.number else self.space.given)
        return trial

    def runs(self, trial: Trial | FrozenTrial, seeds: Iterable[int]) -> list[Run]:
        """Return the runs of a trial, one for each seed."""
        values = values_of(trial)
        return [self.space.run_with(values, seed) for seed in seeds]

    @property
    def repeat_seeds(self) -> list[int]:
        """Seeds that have no part in the choice of the best."""
        first = max(self.tune.seeds) + 1
        return list(range(first, first + self.tune.repeats)) if self.space.dimensions else []

    def outcome(self, trial: Trial | FrozenTrial, seeds: Sequence[int]) -> Outcome:
        """Return what came of the runs of a trial."""
        return outcome(self.trial_folder(trial), seeds, self.space.run.epochs)

    def trial_folder(self, trial: Trial | FrozenTrial) -> Path:
        """Return the folder of a trial."""
        return trial_folder(self.folder, self.variant, trial.number)

    def floors(self) -> dict[int, Floors]:
        """Return what the next trial must not fall below, by seed."""
        if not self.tune.prune:
            return {}
        folders = [self.trial_folder(trial) for trial in self.finished]
        return {
            seed: median_floors(
                [read_metrics(seed_folder(folder, seed)) for folder in folders],
                self.space.run.epochs,
            )
            for seed in self.tune.seeds
        }

    def finish(self, trial: Trial, error: BaseException | None) -> bool:
        """Write down what came of a trial; return whether it counts.

        One that cannot be trained with what is tried, since it diverges for example, counts. One
        that failed for any other reason does not: the same command runs it again.
        """
        folder = self.trial_folder(trial)
        trial.set_user_attr(REASON, None if error is None else writing.reason(error))
        if error is None:
            (folder / FAILURE).unlink(missing_ok=True)
            self._tell(trial)
            return True
        writing.write_failure(folder, error)
        if isinstance(error, SettingsError):
            self._study.tell(trial, state=TrialState.FAIL)
        return isinstance(error, SettingsError)

    def _tell(self, trial: Trial) -> None:
        came = self.outcome(trial, self.tune.seeds)
        trial.set_user_attr("epoch", came.epoch)
        trial.set_user_attr("seconds", came.seconds)
        if came.pruned:
            # Optuna takes the last report for the value of a trial that ended early.
            trial.report(came.value, came.epochs)
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, came.value)

    def _resumed(self, trial: FrozenTrial) -> Trial:
        return Trial(self._study, trial._trial_id)


_STARTED = tuple(state for state in TrialState if state != TrialState.WAITING)


def values_of(trial: Trial | FrozenTrial) -> Values:
    """Return what was tried, as it was run."""
    values: Values = trial.user_attrs[VALUES]
    return values
