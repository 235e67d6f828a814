"""Pictures of embeddings: what a run leaves for them, and how a report draws them.

They show training classes, since only these have proxies: images of a few of them, with what is
synthesised from these, and the cosines of many images to proxies.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from pytorch_metric_learning.testers import GlobalEmbeddingSpaceTester
from torch import Tensor
from torch.utils.data import Subset

from benchmarks.reporting.plots import save
from benchmarks.results import folder as results
from benchmarks.training import checkpoint
from benchmarks.training.assembly import Parts
from pml_synthesis import BaseAugmenter, SyntheticBatch
from pml_synthesis.losses import proxies_of
from pml_synthesis.visualize import plot_cosines, plot_synthesis, proxy_cosines

# So few that a reader can follow each line from an image to what is made of it.
CLASSES = 4
IMAGES_OF_A_CLASS = 4
IMAGES = 2000  # whose cosines are shown

View = dict[str, Any]


def leave_view(parts: Parts, folder: Path) -> None:
    """Leave what pictures of a run are made of, where its loss has proxies and did not diverge."""
    try:
        loss = parts.losses["metric_loss"]
        proxies = proxies_of(loss).detach().cpu()
    except (KeyError, ValueError):
        return
    labels = parts.seen.labels
    few = torch.cat([torch.where(labels == c)[0][:IMAGES_OF_A_CLASS] for c in range(CLASSES)])
    many = torch.linspace(0, len(labels) - 1, min(len(labels), IMAGES)).long()
    embeddings, labels = _embed(parts, torch.cat([few, many]))
    if len(proxies) == 1 or not (embeddings.isfinite().all() and proxies.isfinite().all()):
        return

    # Copies: of a part of a tensor, all of it would be saved.
    batch = embeddings[: len(few)].clone(), labels[: len(few)].clone(), proxies[:CLASSES].clone()
    view = {
        "batch": batch,
        "class_names": parts.seen.class_names[:CLASSES],
        "synthetic": _synthesize(loss, *batch),
        "cosines": proxy_cosines(embeddings[len(few) :], labels[len(few) :], proxies),
    }
    checkpoint.save(view, folder / results.VIEW)


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


def _embed(parts: Parts, rows: Tensor) -> tuple[Tensor, Tensor]:
    # Not the sharing tester: in a run of several processes only one draws pictures.
    tester = GlobalEmbeddingSpaceTester(
        batch_size=256,
        dataloader_num_workers=parts.run.data.workers,
        data_device=parts.device,
    )
    models = parts.models["trunk"], parts.models.get("embedder")
    embeddings, labels = tester.get_all_embeddings(Subset(parts.seen, rows.tolist()), *models)
    return embeddings.cpu(), labels.cpu().flatten()


@torch.no_grad()
def _synthesize(loss: torch.nn.Module, *batch: Tensor) -> dict[str, Tensor] | None:
    augmenters = [module for module in loss.modules() if isinstance(module, BaseAugmenter)]
    if not augmenters:
        return None
    made = augmenters[0].eval()(*batch)
    return {name: getattr(made, name) for name in ("embeddings", "labels", "proxies", "source")}


def _read_view(folder: Path, variant: str, seed: int) -> View | None:
    path = folder / variant / f"seed_{seed}" / results.VIEW
    if not path.exists():
        return None
    with results.undamaged(path, "Delete it: reports then leave out the pictures of this run."):
        view = checkpoint.load(path)
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
