"""What Proxy Synthesis adds at each scale: a table and a picture.

python -m docs.extensions.untuned_scales
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.files import atomic_write
from benchmarks.reporting.names import title
from benchmarks.reporting.summary import summarize
from docs.extensions import gains
from docs.extensions.markdown_table import table
from pml_synthesis.visualize import COLOURS

PICTURE = gains.PICTURE.with_name("scales.png")
SCALES = (1, 2, 5, 10, 20, 50, 100)
# PML's defaults, where they are the scale of a softmax.
DEFAULTS = {2: "ProxyNCA", 20: "norm-softmax", 64: "ArcFace,\nCosFace"}
SETS = {"glyphs": "Glyphs", "grocery": "GroceryStore"}


def published() -> dict[str, str]:
    """Return the sets that have results, by their titles."""
    found = {f"scales_{key}": name for key, name in SETS.items()}
    return {study: name for study, name in found.items() if (gains.RESULTS / study).exists()}


def scales() -> str:
    """Return the table: a column for each scale, and one for the mean over them."""
    cells = gains.corrected({study: study for study in published()})
    rows = []
    for study, name in published().items():
        of_set, means = cells.xs(study, level="set"), _means(study)
        plain = [gains.value(of_set.loc[f"scale_{scale}"]) for scale in SCALES]
        added = [gains.gain(of_set.loc[f"scale_{scale}+ps"]) for scale in SCALES]
        link = f"[{name}](results/{study}/summary.md)"
        rows.append([f"{link}, norm-softmax", *plain, gains.value(means.loc["plain"])])
        rows.append(["+ Proxy Synthesis", *added, gains.gain(means.loc["ps"])])
    head = [f"{title(MAIN_METRIC)} at scale", *map(str, SCALES), "mean of all"]
    return table(head, rows)


def _means(study: str) -> pd.DataFrame:
    """Return the statistics of the mean over all scales, seed by seed."""
    runs = pd.read_csv(gains.RESULTS / study / "results.csv")
    kind = runs["variant"].str.endswith("+ps").map({True: "ps", False: "plain"})
    columns = [MAIN_METRIC, "seconds"]
    means = runs.assign(variant=kind).groupby(["variant", "seed"])[columns].mean().reset_index()
    of_kinds = summarize(means, {"plain": None, "ps": "plain"}).set_index("variant")
    return of_kinds.assign(p_value_holm=1.0)  # Not among the corrected comparisons: no star.


def draw() -> Figure:
    """Draw norm-softmax with and without Proxy Synthesis over the scale, a panel for each set."""
    figure = Figure(figsize=(1 + 4.6 * len(published()), 3.6), layout="constrained")
    panels = figure.subplots(1, len(published()), squeeze=False)[0]
    for panel, (study, name) in zip(panels, published().items(), strict=True):
        _curves(panel, gains.corrected({study: study}).xs(study, level="set"))
        panel.set_title(name, fontsize="medium")
    panels[0].set_ylabel(f"{title(MAIN_METRIC)} [%]")
    panels[-1].legend(loc="lower center")
    return figure


def _curves(panel: Axes, rows: pd.DataFrame) -> None:
    names = {"": ("norm-softmax", COLOURS[1]), "+ps": ("with Proxy Synthesis", COLOURS[0])}
    for ending, (name, colour) in names.items():
        line = rows.loc[[f"scale_{scale}{ending}" for scale in SCALES]]
        mean, width = line[MAIN_METRIC].to_numpy(), line[f"{MAIN_METRIC}_interval"].to_numpy()
        panel.plot(SCALES, mean, marker="o", ms=4, color=colour, label=name)
        panel.fill_between(SCALES, mean - width, mean + width, color=colour, alpha=0.15, lw=0)
    panel.set(xscale="log", xlabel="scale, 1 / temperature")
    panel.set_xticks(SCALES, list(map(str, SCALES)))
    panel.minorticks_off()
    panel.grid(alpha=0.3)
    for scale, name in DEFAULTS.items():
        panel.axvline(scale, color="black", lw=0.8, ls=":")
        panel.annotate(
            name,
            (scale, 0.98),
            (3, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize="x-small",
        )


TABLES = {"gains_scales": scales}

if __name__ == "__main__":
    with atomic_write(PICTURE) as unfinished:
        draw().savefig(unfinished, format="png", dpi=120)
