"""Corrected p-values and the power of paired differences, against their definitions."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.reporting.significance import holm, p_value, visible_difference


def holm_by_hand(p_values: list[float]) -> list[bool]:
    """Say which of the hypotheses are rejected at 5%: the smallest p-values, until one is not."""
    rejected = [False] * len(p_values)
    for step, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] > 0.05 / (len(p_values) - step):
            break
        rejected[index] = True
    return rejected


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_corrected_p_values_reject_what_holm_rejects_step_by_step(p_values):
    near_the_threshold = [abs(p * m - 0.05) < 1e-9 for p in p_values for m in range(1, 21)]
    if not any(near_the_threshold):
        assert (holm(pd.Series(p_values)) <= 0.05).tolist() == holm_by_hand(p_values)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_corrected_p_values_lie_between_the_p_values_and_bonferronis(p_values):
    given_ones = pd.Series(p_values)
    corrected = holm(given_ones)
    assert corrected.ge(given_ones).all()
    assert corrected.le((given_ones * len(p_values)).clip(upper=1) + 1e-12).all()


def test_what_is_no_comparison_is_not_counted():
    corrected = holm(pd.Series([0.03, np.nan, 0.02], index=["a", "b", "c"]))
    assert corrected["a"] == pytest.approx(0.04)
    assert corrected["c"] == pytest.approx(0.04)
    assert np.isnan(corrected["b"])
    assert holm(pd.Series([], dtype=float)).empty


def test_the_p_value_is_that_of_a_paired_t_test():
    before, after = np.random.default_rng(0).normal(size=(2, 7))
    expected = stats.ttest_rel(after, before).pvalue
    assert p_value(pd.Series(after - before)) == pytest.approx(expected, rel=1e-12)


def test_equal_differences_are_certain_and_a_single_one_says_nothing():
    assert p_value(pd.Series([0.5, 0.5])) == 0
    assert p_value(pd.Series([0.0, 0.0])) == 1
    assert np.isnan(p_value(pd.Series([0.5])))


@pytest.mark.parametrize("pairs", [5, 10, 30])
def test_four_of_five_experiments_show_a_visible_difference(pairs):
    truth = visible_difference(2.0, pairs)
    experiments = np.random.default_rng(0).normal(truth, 2.0, size=(20_000, pairs))
    shown = stats.ttest_1samp(experiments, 0, axis=1).pvalue < 0.05
    assert shown.mean() == pytest.approx(0.8, abs=0.02)


def test_a_single_pair_shows_nothing():
    assert np.isnan(visible_difference(1.0, 1))
