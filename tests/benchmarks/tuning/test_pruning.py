"""Which trials end early."""

import optuna
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.pruners import MedianPruner

from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.tuning.pruning import FEWEST_TRIALS, median_floors

EPOCHS = 6
curves = st.lists(
    st.integers(0, 20).map(lambda i: i / 20), min_size=EPOCHS // 2, max_size=EPOCHS // 2
)


def history(values):
    rows = [{"epoch": 2 * i + 2, MAIN_METRIC: value} for i, value in enumerate(values)]
    return pd.DataFrame(rows)


@settings(max_examples=40, deadline=None)
@given(st.lists(curves, max_size=8), curves)
def test_a_trial_ends_where_the_median_pruner_of_optuna_ends_it(finished, tried):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = MedianPruner(n_startup_trials=FEWEST_TRIALS, n_warmup_steps=EPOCHS // 3)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for values in finished:
        trial = study.ask()
        for row in history(values).itertuples():
            trial.report(getattr(row, MAIN_METRIC), row.epoch)
        study.tell(trial, max(values))
    floors = median_floors([history(values) for values in finished], EPOCHS)
    trial = study.ask()
    rows = history(tried).to_dict("records")
    for i, row in enumerate(rows):
        trial.report(row[MAIN_METRIC], row["epoch"])
        assert floors(rows[: i + 1]) == trial.should_prune()


def test_nothing_ends_before_a_first_look_nor_in_the_first_third():
    floors = median_floors([history([0.5, 0.5, 0.5])] * FEWEST_TRIALS, epochs=9)
    assert not floors([])
    low = history([0.1, 0.1, 0.1]).to_dict("records")
    assert [floors(low[: i + 1]) for i in range(3)] == [False, True, True]
    assert not median_floors([history([0.5] * 3)] * (FEWEST_TRIALS - 1), epochs=9)(low)


@pytest.mark.parametrize("epoch", [3, 5])
def test_epochs_without_validation_end_nothing(epoch):
    floors = median_floors([history([0.5, 0.5, 0.5])] * FEWEST_TRIALS, EPOCHS)
    assert not floors([{"epoch": epoch, MAIN_METRIC: 0.0}])
