"""Whether what was read from a checkpoint, which may be damaged, is the state of a run."""

import math
from typing import Any

import pandas as pd
import yaml
from torch import Tensor

from benchmarks.results import metrics
from benchmarks.results.changes import differences, listed, with_defaults
from benchmarks.results.reading import comparable
from benchmarks.settings.schema import Run, dump

State = dict[str, Any]
# Values of one of these stay of it: a number may become one of another type.
KINDS: tuple[Any, ...] = (dict, list, str, Tensor, (bool, int, float))


def check(state: Any, start: State, run: Run, validates: bool) -> None:
    """Raise an error that says why, unless a run can go on from a state.

    Arguments:
        state: what was read.
        start: the state of the run before its first step.
        run: the settings.
        validates: whether there are validation classes.
    """
    _check_form(state, start, "it")
    _check_settings(yaml.safe_load(state["settings"]), run)
    epoch, best_epoch, history = state["epoch"], state["best_epoch"], state["history"]
    if not (type(epoch) is int and 1 <= epoch <= run.epochs):
        raise ValueError(f"its epoch is expected in 1 .. {run.epochs} but is {epoch}")
    looks = [e for e in range(1, epoch + 1) if e % run.evaluate_every == 0 or e == run.epochs]
    looks = looks if validates else []
    if history:
        metrics.checked(pd.DataFrame(history), run.variant, run.seed)
    if (epochs := [row["epoch"] for row in history]) != looks:
        raise ValueError(f"its history is expected of the epochs {looks} but is of {epochs}")
    candidates = (looks or [0]) if validates else [epoch]
    if not (type(best_epoch) is int and best_epoch in candidates):
        raise ValueError(f"its best_epoch is expected among {candidates} but is {best_epoch}")
    if not (math.isfinite(state["seconds"]) and state["seconds"] >= 0):
        raise ValueError(f"its seconds are {state['seconds']}")
    for group, series in state["records"].items():
        if not (isinstance(series, dict) and all(isinstance(s, dict) for s in series.values())):
            raise ValueError(f"its records of {group} are of another kind")


def _check_settings(there: Any, run: Run) -> None:
    """Raise a ValueError if a state is of another run."""
    if (there["variant"], there["seed"]) != (run.variant, run.seed):
        raise ValueError(f"it is of {there['variant']}, seed {there['seed']}")
    asked = yaml.safe_load(dump(run))
    if changed := list(differences(comparable(with_defaults(there)), comparable(asked))):
        raise ValueError(f"it is of other settings: {listed(changed)}")


def _check_form(value: Any, start: Any, place: str) -> None:
    """Raise a ValueError if part of a state is missing, or of another kind than at the start."""
    kind = next((kind for kind in KINDS if isinstance(start, kind)), object)
    if not isinstance(value, kind):
        got, expected = type(value).__name__, type(start).__name__
        raise ValueError(f"{place} is expected to be a {expected} but is a {got}")
    if isinstance(start, dict):
        for key, part in start.items():
            if key not in value:
                raise ValueError(f"{place} has no {key}")
            _check_form(value[key], part, str(key) if place == "it" else f"{place}.{key}")
