"""From runs to statistics: a mean for each variant, and its difference from its baseline."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.evaluation.retrieval import MAIN_METRIC

LEVEL = 0.95
FEW_PAIRS = 5  # Below it the quantile of Student's t alone makes an interval wide.
NOT_METRICS = ("variant", "seed", "split", "epoch", "seconds")


def final_rows(history: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each run that counts: its test, or its best validation where there is none.

    Arguments:
        history: columns variant, seed, split, epoch, the metrics (in [0, 1]) and seconds.
    """
    tested = history["split"].eq("test").groupby([history["variant"], history["seed"]])
    counting = history["split"].where(tested.transform("any"), "test").eq("test")
    best = history[counting].groupby(["variant", "seed"], sort=False)[MAIN_METRIC].idxmax()
    seconds = history.groupby(["variant", "seed"], sort=False)["seconds"].max()
    return history.loc[best].assign(seconds=seconds.to_numpy()).reset_index(drop=True)


def over_folds(folds: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the mean over folds for each variant and seed that all of them have.

    Arguments:
        folds: the runs of each fold, a row for each, see `final_rows`.
    """
    runs = pd.concat(folds)
    by_run = runs.groupby(["variant", "seed"], sort=False)
    whole = by_run["epoch"].transform("size").eq(len(folds))
    columns = [*metrics_of(runs), "seconds"]
    return runs[whole].groupby(["variant", "seed"], sort=False)[columns].mean().reset_index()


def metrics_of(runs: pd.DataFrame) -> list[str]:
    """Return the columns that are metrics."""
    return [name for name in runs.columns if name not in NOT_METRICS]


def summarize(runs: pd.DataFrame, baselines: Mapping[str, str | None]) -> pd.DataFrame:
    """Return statistics over the seeds of each variant, in percent.

    Arguments:
        runs: a row for each run, see `final_rows`.
        baselines: the variant that each variant is compared with, seed by seed.

    Returns:
        One row for each variant, in the order of `runs`. For each metric its mean, `_sd` and
        `_interval`, the half width of the 95% Student-t interval (nan for a single seed);
        `_difference` from the baseline over the seeds that both have, and its
        `_difference_interval`. Beside these: the number of seeds and of pairs, the baseline, the
        verdict on MAP@R, mean seconds.
    """
    rows = []
    by_variant = {name: group.set_index("seed") for name, group in runs.groupby("variant")}
    for variant in runs["variant"].unique():
        group = by_variant[variant]
        baseline = baselines[variant]
        row = {"variant": variant, "seeds": len(group), "baseline": baseline, "pairs": 0}
        for metric in metrics_of(runs):
            values = 100 * group[metric]
            row[metric] = values.mean()
            row[f"{metric}_sd"] = values.std()
            row[f"{metric}_interval"] = half_width(values)
            if baseline in by_variant:
                differences = (values - 100 * by_variant[baseline][metric]).dropna()
                row["pairs"] = len(differences)
                row[f"{metric}_difference"] = differences.mean()
                row[f"{metric}_difference_interval"] = half_width(differences)
        row["verdict"] = verdict(
            row.get(f"{MAIN_METRIC}_difference", np.nan),
            row.get(f"{MAIN_METRIC}_difference_interval", np.nan),
        )
        rows.append(row | {"seconds": group["seconds"].mean()})
    return pd.DataFrame(rows)


def half_width(values: Sequence[float]) -> float:
    """Return the half width of the 95% Student-t interval of a mean: nan for a single value.

    Example:
        >>> round(half_width([1.0, 2.0, 3.0]), 2)
        2.48
    """
    count = len(values)
    if count < 2:
        return float("nan")
    quantile = stats.t.ppf((1 + LEVEL) / 2, df=count - 1)
    return float(quantile * np.std(values, ddof=1) / count**0.5)


def verdict(difference: float, interval: float) -> str:
    """Return "better", "worse" or "no difference seen"; nothing where there is no interval.

    Example:
        >>> verdict(0.5, 0.4), verdict(-0.5, 0.4), verdict(0.5, 0.6), verdict(0.5, float("nan"))
        ('better', 'worse', 'no difference seen', '')
    """
    if np.isnan(interval):
        return ""
    if abs(difference) <= interval:
        return "no difference seen"
    return "better" if difference > 0 else "worse"


def looked_at(history: pd.DataFrame) -> str:
    """Say which classes the figures are of, and how their epoch was chosen."""
    splits = set(history["split"])
    if "test" not in splits:
        return (
            "Validation classes, at the best epoch of each run: good for choosing, too high as a "
            "result."
        )
    epoch = "the best validation epoch" if "val" in splits else "the last epoch"
    return f"Test classes, looked at once, with the models of {epoch}."


def note(summary: pd.DataFrame, history: pd.DataFrame) -> str:
    """Say what the table shows, and how much of it chance alone would show."""
    text = f"{looked_at(history)} Mean ± half of the 95% Student-t interval over seeds."
    comparisons = int(summary["verdict"].ne("").sum())
    if comparisons:
        text += (
            f" Differences in MAP@R are paired, seed by seed. {comparisons} comparison"
            f"{'s were' if comparisons > 1 else ' was'} made: at 95%, "
            f"{(1 - LEVEL) * comparisons:.2g} of them would be called better or worse by chance "
            "alone."
        )
    if summary["pairs"].between(1, FEW_PAIRS - 1).any():
        text += (
            f" With fewer than {FEW_PAIRS} pairs of seeds intervals are wide, and a single pair "
            "has none: more seeds narrow them (seeds='[0,1,2,3,4]' on the command line)."
        )
    return text
