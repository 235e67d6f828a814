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
from benchmarks.reporting.names import in_words
from benchmarks.reporting.summary import half_width
from pml_synthesis import visualize

COLOURS = visualize.COLOURS
COLUMNS = 4  # More panels in a line could not be read on a page.
FEWEST_FOR_A_BAND = 3  # The interval of two seeds is 12.7 times their standard error.
CAPTIONS = {
    "differences.png": "Difference from the baseline: MAP@R minus that of the baseline with the "
    "same seed, mean and 95% interval.",
    "curves.png": "Validation by epoch of the variants without a baseline: the mean over seeds and "
    "its 95% interval, or a thin line for each of two seeds.",
    "curves_differences.png": "Difference from the baseline by epoch, on validation classes: mean "
    "over seeds and 95% interval, or a thin line for each of two seeds.",
}


def draw(history: pd.DataFrame, summary: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw the pictures that `CAPTIONS` names where there is something to show.

    Arguments:
        history: columns variant, seed, split, epoch and the metrics.
        summary: see `summarize`.
        folder: of the comparison.

    Returns:
        Their paths.
    """
    drawn = {}
    compared = summary[summary["verdict"].ne("")]
    if len(compared):
        drawn["differences.png"] = draw_differences(compared)
    return save(drawn | _validation(history, summary), folder)


def save(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write figures, by file name, into a folder; return their paths."""
    for name, figure in figures.items():
        with atomic_write(folder / name) as unfinished:
            figure.savefig(unfinished, format="png", dpi=120)
    return [folder / name for name in figures]


def _validation(history: pd.DataFrame, summary: pd.DataFrame) -> dict[str, Figure]:
    """Draw MAP@R by epoch: as it is without a baseline, else minus that of the baseline."""
    looks = history[history["split"].eq("val") & history["epoch"].gt(0)]
    curves = 100 * looks.set_index(["variant", "seed", "epoch"])[MAIN_METRIC].dropna()
    trained = set(curves.index.unique("variant"))
    alone, differences = {}, {}
    for row in summary[summary["variant"].isin(trained)].itertuples():
        if row.baseline in trained:
            differences[row.variant] = (curves[row.variant] - curves[row.baseline]).dropna()
        else:
            alone[row.variant] = curves[row.variant]
    drawn = {}
    if alone:
        drawn["curves.png"] = _curves(alone, "MAP@R on validation classes [%]", (0, 100))
    if differences:
        figure = _curves(differences, "MAP@R minus that of the baseline [points]", (-100, 100))
        for panel in figure.axes:
            panel.axhline(0, color="black", lw=0.8)
        drawn["curves_differences.png"] = figure
    return drawn


def _curves(curves: Mapping[str, pd.Series], label: str, limits: tuple[float, float]) -> Figure:
    """Draw values by seed and epoch: a panel for each variant, so that none hides another."""
    columns = min(len(curves), COLUMNS)
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(0.8 + 2.8 * columns, 0.8 + 2.4 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for panel, (variant, values) in zip(panels, curves.items(), strict=False):
        _curve(panel, values, limits)
        panel.set_title(in_words(variant), fontsize="medium", wrap=True, parse_math=False)
        panel.grid(alpha=0.3)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    for panel in panels[len(curves) - columns : len(curves)]:  # The lowest of each column.
        panel.tick_params(labelbottom=True)
    for panel in panels[len(curves) :]:
        panel.remove()
    figure.supxlabel("epoch", fontsize="medium")
    figure.supylabel(label, fontsize="medium")
    return figure


def _curve(panel: Axes, values: pd.Series, limits: tuple[float, float]) -> None:
    by_epoch = values.groupby("epoch")
    means = by_epoch.mean()
    panel.plot(means.index, means, color=COLOURS[0], marker="o", markersize=3)
    seeds = values.groupby("seed")
    if len(seeds) >= FEWEST_FOR_A_BAND:
        widths = by_epoch.apply(half_width)
        low, high = (means - widths).clip(*limits), (means + widths).clip(*limits)
        panel.fill_between(means.index, low, high, color=COLOURS[0], alpha=0.15, lw=0)
    elif len(seeds) > 1:
        for _, run in seeds:
            epochs = run.index.get_level_values("epoch")
            panel.plot(epochs, run, color=COLOURS[0], alpha=0.6, lw=0.8)


def draw_differences(compared: pd.DataFrame) -> Figure:
    """Draw the difference of each variant from its baseline, with its interval.

    Arguments:
        compared: rows of a summary that have a verdict, see `summarize`.
    """
    figure = Figure(figsize=(8, 1.3 + 0.35 * len(compared)), layout="constrained")
    axes = figure.subplots()
    looks = {
        "better": (COLOURS[0], "^"),
        "worse": (COLOURS[1], "v"),
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
    names = [_against(row) for row in compared.itertuples()]
    axes.set_yticks(places, names, parse_math=False)
    axes.set_ylim(len(compared) - 0.5, -0.5)
    axes.set_xlabel("MAP@R minus that of the baseline [points]")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(looks))
    return figure


def _against(row: object) -> str:
    """Name a variant, and its baseline where the name does not say it."""
    name = in_words(row.variant)
    plain = row.variant.startswith(f"{row.baseline}+")
    return name if plain else f"{name} (against {in_words(row.baseline)})"
