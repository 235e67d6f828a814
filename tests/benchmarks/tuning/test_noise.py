"""How far apart equally good trials are."""

import math

import numpy as np
import pytest

from benchmarks.tuning.noise import noise


@pytest.mark.parametrize("seeds", [1, 3])
def test_of_equally_good_trials_95_percent_are_within_the_noise(seeds):
    generator = np.random.default_rng(0)
    within = []
    for _ in range(1000):
        groups = generator.normal([[0.5], [0.7]], 0.02, (2, 4))
        one, other = generator.normal(0, 0.02, (2, seeds)).mean(axis=1)
        within.append(abs(one - other) <= noise(list(groups), seeds))
    assert np.mean(within) == pytest.approx(0.95, abs=0.02)


def test_variants_without_repeats_do_not_count():
    assert noise([[0.1, 0.2], []], 1) == noise([[0.1, 0.2]], 1) > 0


def test_without_two_repeats_there_is_no_noise():
    assert math.isnan(noise([], 1)) and math.isnan(noise([[0.5], [0.6]], 1))
