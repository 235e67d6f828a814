"""Pictures of a comparison."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.files import atomic_write
from benchmarks.reporting.summary import half_width
from pml_synthesis import visualize

COLOURS = (visualize.COLOURS[-1], *visualize.COLOURS[:-1])  # The black first.
FEWEST_FOR_A_BAND = 3  # The interval of two seeds is 12.7 times their standard error.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw(history: pd.DataFrame, summary: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw curves.png and differences.png where there is something to show; return their paths."""
    drawn = {}
    curves = history[history["split"].eq("val") & history["epoch"].gt(0)]
    if len(curves):
        drawn["curves.png"] = _curves(curves, summary)
    compared = summary[summary["verdict"].ne("")]
    if len(compared):
        drawn["differences.png"] = _differences(compared)
    return save(drawn, folder)


def save(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write figures, by file name, into a folder; return their paths."""
    for name, figure in figures.items():
        with atomic_write(folder / name) as unfinished:
            figure.savefig(unfinished, format="png", dpi=120)
    return [folder / name for name in figures]


def _curves(curves: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """Validation by epoch: a panel for each baseline and what is compared with it.

    Beside the mean of a variant, its interval, or where seeds are few a thin line for each.
    """
    trained = summary[summary["variant"].isin(curves["variant"])]
    panels = dict(list(trained.groupby(trained["baseline"].fillna(trained["variant"]), sort=False)))
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(1 + 4.2 * columns, 0.6 + 3.4 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for panel, (_, members) in zip(axes, panels.items(), strict=False):
        for i, variant in enumerate(members["variant"]):
            _curve(panel, curves[curves["variant"].eq(variant)], i, variant)
        if len(members) > 1:
            panel.legend(frameon=False, loc="lower right", fontsize="small")
        else:
            panel.set_title(variant, fontsize="small")
        panel.grid(alpha=0.3)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    for panel in axes[len(panels) :]:
        panel.remove()
    figure.supxlabel("epoch")
    figure.supylabel("MAP@R on validation classes [%]")
    return figure


def _curve(panel: Axes, runs: pd.DataFrame, index: int, label: str) -> None:
    by_epoch = runs.groupby("epoch")[MAIN_METRIC]
    means = 100 * by_epoch.mean()
    colour = COLOURS[index % len(COLOURS)]
    marker = MARKERS[index % len(MARKERS)]
    panel.plot(means.index, means, color=colour, marker=marker, markersize=3, label=label)
    seeds = runs.groupby("seed")
    if len(seeds) >= FEWEST_FOR_A_BAND:
        widths = 100 * by_epoch.apply(half_width)
        # Few seeds have wide intervals, and no share is below 0% or above 100%.
        low, high = (means - widths).clip(lower=0), (means + widths).clip(upper=100)
        panel.fill_between(means.index, low, high, color=colour, alpha=0.15, lw=0)
    else:
        for _, run in seeds:
            panel.plot(run["epoch"], 100 * run[MAIN_METRIC], color=colour, alpha=0.5, lw=0.7)


def _differences(compared: pd.DataFrame) -> Figure:
    """Each variant's difference from its baseline, with its interval."""
    figure = Figure(figsize=(7, 1.2 + 0.35 * len(compared)), layout="constrained")
    axes = figure.subplots()
    looks = {
        "better": (COLOURS[1], "^"),
        "worse": (COLOURS[2], "v"),
        "no difference seen": ("#666666", "o"),
    }
    places = np.arange(len(compared))
    for verdict, (colour, marker) in looks.items():
        chosen = compared["verdict"].eq(verdict).to_numpy()
        if chosen.any():
            axes.errorbar(
                compared[f"{MAIN_METRIC}_difference"][chosen],
                places[chosen],
                xerr=compared[f"{MAIN_METRIC}_difference_interval"][chosen],
                fmt=marker,
                color=colour,
                capsize=3,
                label=verdict,
            )
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(places, compared["variant"])
    axes.set_ylim(len(compared) - 0.5, -0.5)
    axes.set_xlabel("MAP@R minus that of the baseline, paired by seed [points]")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(looks))
    return figure
