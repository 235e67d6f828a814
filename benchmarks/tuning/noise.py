"""How much the value of a trial depends on its seed, and which trials are equal within that."""

from collections.abc import Collection

import numpy as np
from scipy import stats

from benchmarks.reporting.summary import LEVEL


def noise(groups: Collection[Collection[float]], seeds: int) -> float:
    """Return how far apart two equally good trials are, in 95% of all pairs at most.

    The variance over seeds is pooled over the variants; of a difference it is twice that, and
    Student's t allows for the few runs that it is known from.

    Arguments:
        groups: for each variant the values of its best trial with different seeds.
        seeds: how many a trial has.

    Returns:
        The half width of the interval of the difference; nan where no group has two values.

    Example:
        >>> round(noise([[0.50, 0.52, 0.54], [0.60, 0.61, 0.62]], seeds=1), 3)
        0.062
    """
    groups = [values for values in groups if len(values)]
    degrees = sum(len(values) - 1 for values in groups)
    if degrees < 1:
        return float("nan")
    squares = sum(np.square(np.subtract(values, np.mean(values))).sum() for values in groups)
    quantile = stats.t.ppf((1 + LEVEL) / 2, degrees)
    return float(quantile * np.sqrt(2 * squares / degrees / seeds))
