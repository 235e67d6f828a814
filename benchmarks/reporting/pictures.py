"""Pictures of embeddings, from the views that runs leave (see training/views.py)."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmarks import files
from benchmarks.reporting.names import in_words
from benchmarks.reporting.plots import save
from benchmarks.results import paths, reading
from pml_synthesis import SyntheticBatch
from pml_synthesis.visualize import plot_cosines, plot_synthesis

View = dict[str, Any]
Views = dict[Path, View]  # by the files that they were read from


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
            places = [folder / name / f"seed_{seed}" / paths.VIEW for name in (baseline, variant)]
            views = {path: _read_view(path) for path in places if path.exists()}
            if len(views) == len(places) and views[places[-1]]["synthetic"] is not None:
                figures[f"embeddings_{variant}.png"] = _embeddings(views)
                figures[f"cosines_{variant}.png"] = _cosines(views)
    return save(figures, folder)


def _read_view(path: Path) -> View:
    with _undamaged(path):
        view = files.load(path)
        if not view.keys() >= {"batch", "class_names", "synthetic", "cosines"}:
            raise ValueError("parts of it are missing")
        if not isinstance(view["class_names"], list | tuple):
            raise ValueError("its class_names are no list of names")
        return view


def _undamaged(path: Path) -> AbstractContextManager[None]:
    return reading.undamaged(path, "Delete it: reports then leave out the pictures of this run.")


def _embeddings(views: Views) -> Figure:
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for axes, (path, view) in zip(figure.subplots(1, 2), views.items(), strict=True):
        with _undamaged(path):
            made = view["synthetic"] and SyntheticBatch(**view["synthetic"])
            plot_synthesis(*view["batch"], made, class_names=view["class_names"], ax=axes)
        axes.set_title(_variant(path), parse_math=False)
    # That of the second says all.
    figure.axes[0].get_legend().remove()
    shown, names = len(view["batch"][1]), view["class_names"]
    figure.suptitle(f"{shown} images of the first {len(names)} training classes", fontsize="medium")
    return figure


def _cosines(views: Views) -> Figure:
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    for axes, (path, view) in zip(panels, views.items(), strict=True):
        with _undamaged(path):
            plot_cosines(*view["cosines"], ax=axes)
        axes.set_title(_variant(path), parse_math=False)
    panels[0].set_xlabel("")
    return figure


def _variant(path: Path) -> str:
    variant, _ = paths.run_of(path.parent)
    return in_words(variant)
