"""Pictures of embeddings, from the views that runs leave (see training/views.py)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmarks import files
from benchmarks.reporting.plots import save
from benchmarks.results import paths, reading
from pml_synthesis import SyntheticBatch
from pml_synthesis.visualize import plot_cosines, plot_synthesis

View = dict[str, Any]


def draw(runs: pd.DataFrame, baselines: Mapping[str, str | None], folder: Path) -> list[Path]:
    """Draw each variant that synthesises beside its baseline, for the first seed of both.

    Arguments:
        runs: a row for each finished run.
        baselines: what each variant is compared with.
        folder: of the comparison.

    Returns:
        The paths of the pictures.
    """
    figures = {}
    for variant, baseline in baselines.items():
        seeds = [set(runs["seed"][runs["variant"].eq(name)]) for name in (baseline, variant)]
        for seed in sorted(set.intersection(*seeds))[:1]:
            views = {name: _read_view(folder, name, seed) for name in (baseline, variant)}
            if all(views.values()) and views[variant]["synthetic"]:
                figures[f"embeddings_{variant}.png"] = _embeddings(views)
                figures[f"cosines_{variant}.png"] = _cosines(views)
    return save(figures, folder)


def _read_view(folder: Path, variant: str, seed: int) -> View | None:
    path = folder / variant / f"seed_{seed}" / paths.VIEW
    if not path.exists():
        return None
    with reading.undamaged(path, "Delete it: reports then leave out the pictures of this run."):
        view = files.load(path)
        if not view.keys() >= {"batch", "class_names", "synthetic", "cosines"}:
            raise ValueError("parts of it are missing")
        return view


def _embeddings(views: dict[str, View]) -> Figure:
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for axes, (name, view) in zip(figure.subplots(1, 2), views.items(), strict=True):
        made = view["synthetic"] and SyntheticBatch(**view["synthetic"])
        plot_synthesis(*view["batch"], made, class_names=view["class_names"], ax=axes)
        axes.set_title(name)
    # That of the second says all.
    figure.axes[0].get_legend().remove()
    shown, names = len(view["batch"][1]), view["class_names"]
    figure.suptitle(f"{shown} images of the first {len(names)} training classes", fontsize="medium")
    return figure


def _cosines(views: dict[str, View]) -> Figure:
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    for axes, (name, view) in zip(panels, views.items(), strict=True):
        plot_cosines(*view["cosines"], ax=axes)
        axes.set_title(name)
    panels[0].set_xlabel("")
    return figure
