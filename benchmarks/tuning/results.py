"""What a search found, as tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.results import paths
from benchmarks.tuning.noise import noise
from benchmarks.tuning.study import REASON, Study, values_of
from benchmarks.tuning.trials import seed_folder

# Columns of trials.csv beside the settings.
STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "interrupted",
}


@dataclass(frozen=True)
class Found:
    """What was found of a variant.

    Arguments:
        study: its trials.
        best: the best of them.
        repeats: the values of the best with other seeds.
        equal: the finished trials that are as good as the best within the noise, itself included.
    """

    study: Study
    best: FrozenTrial
    repeats: Sequence[float]
    equal: Sequence[FrozenTrial]


def trials_table(studies: Sequence[Study]) -> pd.DataFrame:
    """Return a row for each trial: what it tried, MAP@R in [0, 1], and why it failed if it did."""
    rows = [_row(study, trial) for study in studies for trial in study.trials if _is_started(trial)]
    names = dict.fromkeys(name for study in studies for name in study.space.given)
    columns = ["variant", "number", "state", *names, MAIN_METRIC, "epoch", "seconds", REASON]
    return pd.DataFrame(rows, columns=columns)


def found(studies: Sequence[Study]) -> tuple[list[Found], float]:
    """Return what was found of each variant that has a finished trial, and the noise of a trial."""
    there = [(study, best) for study in studies if (best := study.best) is not None]
    repeats = [_repeats(study, best) for study, best in there]
    seeds = len(studies[0].tune.seeds)
    size = noise(repeats, seeds)
    results = [
        Found(study, best, values, _equal(study, best, size))
        for (study, best), values in zip(there, repeats, strict=True)
    ]
    return results, size


def _row(study: Study, trial: FrozenTrial) -> dict[str, object]:
    row = {"variant": study.variant, "number": trial.number, "state": STATES[trial.state]}
    measured = {name: trial.user_attrs.get(name) for name in ("epoch", "seconds", REASON)}
    return {**row, **values_of(trial), MAIN_METRIC: trial.value, **measured}


def _is_started(trial: FrozenTrial) -> bool:
    return trial.state in STATES and trial.user_attrs != {}


def _repeats(study: Study, best: FrozenTrial) -> list[float]:
    folder = study.trial_folder(best)
    there = [s for s in study.repeat_seeds if paths.is_finished(seed_folder(folder, s))]
    return [study.outcome(best, [seed]).value for seed in there]


def _equal(study: Study, best: FrozenTrial, size: float) -> list[FrozenTrial]:
    if np.isnan(size):
        return [best]
    return [trial for trial in study.finished if trial.value >= best.value - size]
