"""From runs to statistics: a mean for each variant, and its difference from its baseline."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.reporting.significance import LEVEL, POWER, holm, p_value, visible_difference

FEW_PAIRS = 5  # Below it the quantile of Student's t alone makes an interval wide.
NOT_METRICS = ("variant", "seed", "split", "epoch", "seconds")


def final_rows(history: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each run that counts: its test, or its best validation where there is none.

    Arguments:
        history: columns variant, seed, split, epoch, the metrics (in [0, 1]) and seconds.
    """
    tested = history["split"].eq("test").groupby([history["variant"], history["seed"]])
    counting = history["split"].where(tested.transform("any"), "test").eq("test")
    # A run without a figure keeps its row.
    values = history[counting].fillna({MAIN_METRIC: -np.inf})
    best = values.groupby(["variant", "seed"], sort=False)[MAIN_METRIC].idxmax()
    seconds = history.groupby(["variant", "seed"], sort=False)["seconds"].max()
    return history.loc[best].assign(seconds=seconds.to_numpy()).reset_index(drop=True)


def over_folds(folds: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the mean over folds for each variant and seed that all of them have figures of.

    Arguments:
        folds: the runs of each fold, a row for each, see `final_rows`.
    """
    runs = pd.concat(folds).dropna(subset=[MAIN_METRIC])
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
        `_difference_interval`. Beside these: the number of seeds that have figures and of pairs,
        the baseline, mean seconds, and of MAP@R the verdict, the `p_value` of the difference,
        `p_value_holm`, corrected for the number of differences, and the `visible_difference`, see
        `benchmarks.reporting.significance`.
    """
    rows = []
    by_variant = {name: group.set_index("seed") for name, group in runs.groupby("variant")}
    for variant in runs["variant"].unique():
        group = by_variant[variant]
        baseline = baselines[variant]
        row = {
            "variant": variant,
            "seeds": group[MAIN_METRIC].count(),
            "baseline": baseline,
            "pairs": 0,
        }
        for metric in metrics_of(runs):
            values = 100 * group[metric].dropna()
            row[metric] = values.mean()
            row[f"{metric}_sd"] = values.std()
            row[f"{metric}_interval"] = half_width(values)
            if baseline in by_variant:
                differences = (values - 100 * by_variant[baseline][metric]).dropna()
                row["pairs"] = len(differences)
                row[f"{metric}_difference"] = differences.mean()
                row[f"{metric}_difference_interval"] = half_width(differences)
                if metric == MAIN_METRIC:
                    row["p_value"] = p_value(differences)
                    row["visible_difference"] = visible_difference(
                        differences.std(), len(differences)
                    )
        row["verdict"] = verdict(
            row.get(f"{MAIN_METRIC}_difference", np.nan),
            row.get(f"{MAIN_METRIC}_difference_interval", np.nan),
        )
        rows.append(row | {"seconds": group["seconds"].mean()})
    summary = pd.DataFrame(rows)
    if "p_value" in summary:
        summary["p_value_holm"] = holm(summary["p_value"])
    return summary


def half_width(values: Sequence[float]) -> float:
    """Return the half width of the 95% Student-t interval of a mean: nan for a single value.

    Example:
        >>> round(half_width([1.0, 2.0, 3.0]), 2)
        2.48
    """
    if len(values) < 2:
        return float("nan")
    # Around zero, where the interval's end is its half width.
    centred = np.subtract(values, np.mean(values))
    # The mean of equal values may differ from them in its last digit.
    return float(np.maximum(stats.ttest_1samp(centred, 0).confidence_interval(LEVEL).high, 0))


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


def describe_protocol(history: pd.DataFrame, overlaps: Sequence[str] = ()) -> str:
    """Say which classes the figures are of, and how their epoch was chosen.

    Arguments:
        history: columns split and others, see `final_rows`.
        overlaps: what the splits share, a text for each two of them.
    """
    splits = set(history["split"])
    seen = (
        f" They are no figures of unseen classes: {'; '.join(overlaps)} (data.allow_overlap)."
        if overlaps
        else ""
    )
    if "test" not in splits:
        return (
            "Validation classes, at the best epoch of each run: good for choosing, too high as a "
            f"result.{seen}"
        )
    epoch = "the best validation epoch" if "val" in splits else "the last epoch"
    once = "" if overlaps else ", looked at once"
    return f"Test classes{once}, with the models of {epoch}.{seen}"


def note(summary: pd.DataFrame, history: pd.DataFrame, overlaps: Sequence[str] = ()) -> str:
    """Say what the table shows, and how much of it chance alone would show.

    Arguments:
        summary: see `summarize`.
        history: see `final_rows`.
        overlaps: what the splits share, a text for each two of them.
    """
    protocol = describe_protocol(history, overlaps)
    text = f"{protocol} Mean ± half of the 95% Student-t interval over seeds."
    comparisons = int(summary["verdict"].ne("").sum())
    if comparisons:
        text += (
            f" Differences in MAP@R are paired, seed by seed. {comparisons} comparison"
            f"{'s were' if comparisons > 1 else ' was'} made: at 95%, "
            f"{(1 - LEVEL) * comparisons:.2g} of them would be called better or worse by chance "
            f"alone. {_power(summary)}"
        )
    lost = history[history[MAIN_METRIC].isna()]
    if len(lost):
        runs = {f"{run.variant}, seed {run.seed} ({run.split})": None for run in lost.itertuples()}
        text += f" No figures (nan), so not among the seeds: {'; '.join(runs)}."
    if summary["pairs"].between(1, FEW_PAIRS - 1).any():
        text += (
            f" With fewer than {FEW_PAIRS} pairs of seeds intervals are wide, and a single pair "
            "has none: more seeds narrow them (seeds='[0,1,2,3,4]' on the command line)."
        )
    return text


def _power(summary: pd.DataFrame) -> str:
    """Say what remains after Holm's correction, and how small a difference would be seen."""
    remain = ", ".join(summary.loc[summary["p_value_holm"].le(1 - LEVEL), "variant"])
    corrected = f"These differ after Holm's correction for their number: {remain or 'none'}. "
    visible = summary["visible_difference"].dropna().sort_values().map("{:.1f}".format)
    span = " to ".join(dict.fromkeys(visible.iloc[[0, -1]]))
    return (
        f"{corrected if summary['p_value'].count() > 1 else ''}With this spread and as many pairs, "
        f"a true difference of {span} points is seen with a probability of {POWER:.0%}."
    )
