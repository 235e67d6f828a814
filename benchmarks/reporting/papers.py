"""Published figures, and one's own runs beside them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import files
from benchmarks.errors import SettingsError, nearest
from benchmarks.reporting.names import title
from benchmarks.reporting.report import (
    markdown,
    overlaps_of,
    summary_of_folds,
    with_intervals,
)
from benchmarks.reporting.summary import describe_protocol

AGAINST_PAPER = "against_paper.md"


def published() -> pd.DataFrame:
    """Return the published figures in percent, one to a row.

    Columns: set, settings (the file of configs/papers that repeats it, "" for none), variant,
    metric, published, sd (over runs; nan where it is not known) and source.
    """
    path = Path(__file__).with_name("published.csv")
    return pd.read_csv(path, keep_default_na=False, na_values={"sd": [""]})


def table(settings: str, summary: pd.DataFrame | None = None) -> str:
    """Write what was published for a settings file as Markdown, with one's own figures beside it.

    Arguments:
        settings: the name of a file of configs/papers.
        summary: of one's own runs, see `summarize`; without one that column is left empty.

    Raises:
        SettingsError: if nothing was published for such a file.
    """
    everything = published()
    known = everything["settings"]
    if settings not in set(known) - {""}:
        raise SettingsError(
            f"Nothing was published for {settings!r}: {nearest(settings, set(known) - {''})}"
        )
    figures = everything[known.eq(settings)]
    own = _own(summary, figures["metric"].unique())
    rows = figures.merge(own, on=["variant", "metric"], how="left" if summary is None else "outer")
    cells = {
        "variant": rows["variant"],
        "metric": rows["metric"].map(title),
        "published [%]": [
            _figure(*pair) for pair in zip(rows["published"], rows["sd"], strict=True)
        ],
        "source": rows["source"].fillna("not published"),
        "here [%]": with_intervals(rows["mean"], rows["interval"]),
        "difference": with_intervals(rows["mean"] - rows["published"], rows["none"], sign="+"),
    }
    return markdown(pd.DataFrame(cells))


def against_paper(folders: Sequence[Path], settings: str) -> str:
    """Write against_paper.md into each folder; return what it says.

    Arguments:
        folders: of comparisons; several are the folds of one, averaged seed by seed.
        settings: the name of the file of configs/papers that they were run from.

    Raises:
        SettingsError: if a folder holds no finished run, or nothing was published for such a file.
    """
    history, summary = summary_of_folds(folders)
    seeds = ", ".join(f"{row.variant} {row.seeds}" for row in summary.itertuples())
    text = "\n".join(
        [
            f"# {settings} against the paper",
            "",
            table(settings, summary),
            "",
            f"Here: {describe_protocol(history, overlaps_of(folders))} Mean ± half of the 95% "
            f"Student-t interval over seeds ({seeds}).",
            "",
        ]
    )
    for folder in folders:
        files.write_text(text, folder / AGAINST_PAPER)
    return text


def _figure(published: float, sd: float) -> str:
    """As many decimals as the sources give."""
    if np.isnan(published):
        return ""
    return f"{published:.1f}" if np.isnan(sd) else f"{published:.2f} (sd {sd:.2f})"


def _own(summary: pd.DataFrame | None, metrics: Sequence[str]) -> pd.DataFrame:
    """The mean and interval of each variant and metric, and an empty column."""
    columns = ["variant", "metric", "mean", "interval", "none"]
    if summary is None:
        return pd.DataFrame(columns=columns).astype({name: float for name in columns[2:]})
    rows = [
        (variant, metric, mean, interval, np.nan)
        for metric in metrics
        if metric in summary
        for variant, mean, interval in zip(
            summary["variant"], summary[metric], summary[f"{metric}_interval"], strict=True
        )
    ]
    return pd.DataFrame(rows, columns=columns)
