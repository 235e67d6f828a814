"""A picture of a search: validation against each setting."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState

from benchmarks.reporting import plots
from benchmarks.reporting.names import in_words
from benchmarks.tuning.ranges import Categorical
from benchmarks.tuning.results import Found
from benchmarks.tuning.space import Dimension
from benchmarks.tuning.study import values_of

PICTURE = "trials.png"


def draw(found: Sequence[Found], noise: float, folder: Path) -> None:
    """Draw a row of panels for each variant, one for each setting that was searched."""
    searched = [result for result in found if result.study.space.dimensions]
    if not searched:
        return
    columns = max(len(result.study.space.dimensions) for result in searched)
    size = 1 + 3.2 * columns, 0.9 + 2.6 * len(searched)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(searched), columns, sharey="row", squeeze=False)
    for row, result in zip(axes, searched, strict=True):
        for i, panel in enumerate(row):
            if i < len(result.study.space.dimensions):
                _panel(panel, result, result.study.space.dimensions[i], noise)
            else:
                panel.remove()
        row[0].set_ylabel("MAP@R on validation\nclasses [%]", fontsize="small")
        row[0].set_title(
            in_words(result.study.variant), loc="left", fontsize="small", fontweight="bold"
        )
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    plots.save({PICTURE: figure}, folder)


def _panel(panel: Axes, result: Found, dimension: Dimension, noise: float) -> None:
    trials = [t for t in result.study.trials if t.value is not None]
    ended = [t for t in trials if t.state == TrialState.PRUNED]
    blue, orange, *_ = plots.COLOURS
    _points(panel, result.study.finished, dimension, color=blue, label="finished")
    _points(panel, ended, dimension, color="#888888", facecolors="none", label="pruned")
    best = {"color": orange, "marker": "*", "s": 110, "label": "best, and equal within noise"}
    _points(panel, [result.best], dimension, **best)
    as_given = {"color": "black", "facecolors": "none", "marker": "D", "s": 60}
    _points(panel, trials[:1], dimension, **as_given, label="as given")
    if noise == noise:  # not nan
        high = 100 * result.best.value
        panel.axhspan(high - 100 * noise, high, color=orange, alpha=0.15, lw=0)
    if isinstance(dimension.range, Categorical):
        panel.set_xticks(range(len(dimension.range.choices)), map(str, dimension.range.choices))
    elif dimension.range.log:
        panel.set_xscale("log")
    panel.set_xlabel(dimension.name, fontsize="small")
    panel.grid(alpha=0.3)


def _points(panel: Axes, trials: Sequence[FrozenTrial], dimension: Dimension, **look: Any) -> None:
    places = [_place(values_of(trial)[dimension.name], dimension) for trial in trials]
    panel.scatter(places, [100 * trial.value for trial in trials], **{"s": 25, "zorder": 3} | look)


def _place(value: Any, dimension: Dimension) -> float:
    if isinstance(dimension.range, Categorical):
        return dimension.range.choices.index(value)
    return value
