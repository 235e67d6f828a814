"""What the differences of paired runs prove: p-values, Holm's correction, and their power."""

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95
POWER = 0.8


def p_value(differences: pd.Series) -> float:
    r"""Return the two-sided p-value of a paired t-test: nan for a single pair.

    Equal differences leave no spread to compare them with: they have p-value 0, or 1 if they are 0.

    Example:
        >>> round(p_value(pd.Series([1.0, 2.0, 3.0])), 3)
        0.074
    """
    if len(differences) < 2:
        return float("nan")
    if np.ptp(differences) == 0:
        return float(differences.iloc[0] == 0)
    return float(stats.ttest_1samp(differences, 0).pvalue)


def holm(p_values: pd.Series) -> pd.Series:
    r"""Return p-values corrected for their number by Holm's step-down method.

    :math:`\tilde p_{(i)} = \max_{j \leq i} \min(1, (m - j + 1) p_{(j)})` for the ordered p-values
    :math:`p_{(1)} \leq \dots \leq p_{(m)}`. Of all differences with a corrected p-value below 0.05,
    the chance that even one is due to chance is at most 5%. What is nan is no comparison.

    Source:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
        Statistics 6 (1979), section 3.

    Example:
        >>> holm(pd.Series([0.01, 0.04, 0.03])).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    ordered = p_values.dropna().sort_values()
    steps = np.arange(len(ordered), 0, -1)
    return (ordered * steps).cummax().clip(upper=1).reindex(p_values.index)


def visible_difference(spread: float, pairs: int) -> float:
    r"""Return the smallest true difference that as many pairs show with a probability of 80%.

    :math:`(t_{0.975} + t_{0.8}) \, s / \sqrt{n}`, with quantiles of Student's t for :math:`n - 1`
    degrees of freedom: nan for a single pair.

    Arguments:
        spread: the standard deviation :math:`s` of the differences, in any unit.
        pairs: their number :math:`n`.

    Returns:
        A difference in the unit of `spread`.

    Source:
        Bloom, "Minimum detectable effects", Evaluation Review 19 (1995).

    Example:
        >>> round(visible_difference(0.5, 10), 2)
        0.5
    """
    if pairs < 2:
        return float("nan")
    quantiles = stats.t.ppf([(1 + LEVEL) / 2, POWER], df=pairs - 1)
    return float(quantiles.sum() * spread / np.sqrt(pairs))
