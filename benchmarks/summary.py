"""From runs to a table of variants."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

COLUMNS = {"precision_at_1": "P@1", "mean_average_precision_at_r": "MAP@R"}


def summarize(runs: pd.DataFrame) -> pd.DataFrame:
    """Return mean and 95% interval of each metric over the seeds of each variant.

    Arguments:
        runs: columns variant, seed, the metrics (in [0, 1]) and seconds; a row for each run.

    Returns:
        One row for each variant, in the order of `runs`: metrics in percent, and beside each its
        `_interval`, the half width of the 95% Student-t interval (nan for a single seed); the
        number of seeds; mean seconds.
    """
    metrics = [name for name in runs.columns if name not in ("variant", "seed", "seconds")]
    rows = []
    for variant, group in runs.groupby("variant", sort=False):
        row = {"variant": variant, "seeds": len(group)}
        for metric in metrics:
            values = 100 * group[metric]
            row[metric] = values.mean()
            row[f"{metric}_interval"] = half_width(values)
        rows.append(row | {"seconds": group["seconds"].mean()})
    return pd.DataFrame(rows)


def half_width(values: Sequence[float], level: float = 0.95) -> float:
    """Return the half width of the Student-t interval of a mean: nan for a single value.

    Example:
        >>> round(half_width([1.0, 2.0, 3.0]), 2)
        2.48
    """
    count = len(values)
    if count < 2:
        return float("nan")
    quantile = stats.t.ppf((1 + level) / 2, df=count - 1)
    return float(quantile * np.std(values, ddof=1) / count**0.5)


def to_text(summary: pd.DataFrame) -> str:
    """Return the table for the screen: a line for each variant."""
    table = pd.DataFrame({"variant": summary["variant"]})
    for metric, title in COLUMNS.items():
        intervals = summary[f"{metric}_interval"]
        table[f"{title} [%]"] = [
            f"{mean:.1f}" if np.isnan(interval) else f"{mean:.1f} ± {interval:.1f}"
            for mean, interval in zip(summary[metric], intervals, strict=True)
        ]
    table["seeds"] = summary["seeds"]
    table["seconds"] = summary["seconds"].round(1)
    return table.to_string(index=False)
