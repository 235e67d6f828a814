"""What a run leaves for pictures of its embeddings.

They show training classes, since only these have proxies: images of a few of them, with what is
synthesised from these, and the cosines of many images to proxies.
"""

import copy
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Subset

from benchmarks import files
from benchmarks.evaluation.retrieval import Tester
from benchmarks.results import paths
from benchmarks.training.assembly import Parts
from pml_synthesis import BaseAugmenter
from pml_synthesis.losses import proxies_of
from pml_synthesis.visualize import proxy_cosines

# So few that a reader can follow each line from an image to what is made of it.
CLASSES = 4
IMAGES_OF_A_CLASS = 4
IMAGES = 2000  # whose cosines are shown


def save_view(parts: Parts, folder: Path) -> None:
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
        "synthetic": _synthesize(loss, *batch[:2], proxies),
        "cosines": proxy_cosines(embeddings[len(few) :], labels[len(few) :], proxies),
    }
    files.save(view, folder / paths.VIEW)


def _embed(parts: Parts, rows: Tensor) -> tuple[Tensor, Tensor]:
    # Not the sharing tester: in a run of several processes only one draws pictures.
    tester = Tester(
        batch_size=256,
        dataloader_num_workers=parts.run.data.workers,
        data_device=parts.device,
    )
    models = parts.models["trunk"], parts.models.get("embedder")
    embeddings, labels = tester.get_all_embeddings(Subset(parts.seen, rows.tolist()), *models)
    return embeddings.cpu(), labels.cpu().flatten()


@torch.no_grad()
def _synthesize(
    loss: torch.nn.Module, embeddings: Tensor, labels: Tensor, proxies: Tensor
) -> dict[str, Tensor] | None:
    """Return what is made of images of the first classes, the new classes counted from there."""
    augmenters = [module for module in loss.modules() if isinstance(module, BaseAugmenter)]
    if not augmenters:
        return None
    made = copy.deepcopy(augmenters[0]).cpu().eval()(embeddings, labels, proxies)
    # An augmenter with a memory makes something of other classes, too.
    parents = made.parent_labels(labels, len(proxies))
    shown = parents < CLASSES
    new = made.labels[shown & (made.labels >= len(proxies))].unique()
    place = CLASSES + torch.searchsorted(new, made.labels[shown])
    return {
        "embeddings": made.embeddings[shown],
        "labels": torch.where(made.labels[shown] < len(proxies), made.labels[shown], place),
        "proxies": made.proxies[new - len(proxies)],
        "source": made.source[shown],
        "parent": parents[shown],
    }
