"""When a trial falls behind: the rule of Optuna's MedianPruner.

What to fall behind is known when a trial starts, so the process that trains needs no way back to
the study, and a trial that was interrupted is judged as before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmarks.evaluation.metrics import MAIN_METRIC

FEWEST_TRIALS = 5
# Of the epochs: early on, low learning rates look better than they are.
FIRST_EPOCHS = 1 / 3


@dataclass(frozen=True)
class Floors:
    """Ends a run whose best validation so far is below a floor.

    Arguments:
        by_epoch: the floors.
    """

    by_epoch: Mapping[int, float]

    def __call__(self, history: Sequence[Mapping[str, Any]]) -> bool:
        """Tell whether a run ends here, from its validation so far."""
        if not history:
            return False
        best = max(row[MAIN_METRIC] for row in history)
        return best < self.by_epoch.get(history[-1]["epoch"], float("-inf"))


def median_floors(histories: Sequence[pd.DataFrame], epochs: int) -> Floors:
    """Return the median over finished trials for each epoch at which they were validated.

    Arguments:
        histories: the validation of these trials with one seed, columns epoch and the metrics.
        epochs: how many a run has.
    """
    if len(histories) < FEWEST_TRIALS:
        return Floors({})
    values = [history.set_index("epoch")[MAIN_METRIC] for history in histories]
    medians = pd.concat(values, axis=1).median(axis=1)
    return Floors(medians[medians.index >= FIRST_EPOCHS * epochs].to_dict())
