"""Proxies that do not learn are told."""

import warnings

import pytest

from benchmarks.datasets.splits import Splits
from benchmarks.training.run import execute
from few_glyphs import patterns
from trained_run import patterns_run

STILL = "optimizers.metric_loss.AdamW.lr=0"


@pytest.mark.parametrize("variant", ["plain", "plain+ps"])
def test_proxies_that_stand_still_are_told_and_others_are_not(variant, tmp_path):
    splits = Splits(patterns("train"), None, patterns("test"))
    with pytest.warns(UserWarning, match="did not move in the first epoch: no optimiser has them"):
        execute(patterns_run(variant, 0, STILL), splits, tmp_path / "still")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        execute(patterns_run(variant, 0), splits, tmp_path / "moving")
    assert not [warning for warning in caught if "did not move" in str(warning.message)]
