"""What the tests run over: the augmenters, PML's proxy losses, reducers and batches."""

from dataclasses import dataclass
from typing import Any

import torch
from pytorch_metric_learning import losses, reducers

import pml_synthesis
from pml_synthesis import BaseAugmenter, Compose

# Whatever keeps the contract of an augmenter is to be tested with these: a new one is among them.
PUBLIC_AUGMENTERS = [
    public
    for name in pml_synthesis.__all__
    if isinstance(public := getattr(pml_synthesis, name), type)
    and issubclass(public, BaseAugmenter)
    and public not in (BaseAugmenter, Compose)
]


@dataclass(frozen=True)
class ProxyLoss:
    """A proxy loss of PML: how to build it, and where its weight is."""

    loss_class: type
    weight: str
    class_dim: int
    centers: int = 1
    options: tuple[tuple[str, Any], ...] = ()

    def build(self, num_classes, dim, **kwargs):
        size = "descriptors_dim" if self.loss_class is losses.P2SGradLoss else "embedding_size"
        return self.loss_class(
            **{"num_classes": num_classes, size: dim}, **dict(self.options), **kwargs
        )

    def build_with(self, rows, **kwargs):
        """Build the loss with given proxies, rows [C K, D], as a leaf or not."""
        rows = rows.reshape(-1, rows.shape[-1])
        loss = self.build(len(rows) // self.centers, rows.shape[1], **kwargs)
        del loss._parameters[self.weight]
        setattr(loss, self.weight, rows.movedim(0, self.class_dim))
        return loss

    def proxies(self, loss):
        """Return the proxies, [C, D] or [C, K, D], written here apart from the bindings."""
        weight = getattr(loss, self.weight)
        rows = weight.t() if self.class_dim else weight
        if self.loss_class in (losses.SubCenterArcFaceLoss, losses.SoftTripleLoss):
            return rows.reshape(-1, self.centers, rows.shape[1])
        return rows

    @property
    def uses_norms(self):
        return self.loss_class in (losses.LargeMarginSoftmaxLoss, losses.SphereFaceLoss)

    @property
    def name(self):
        return self.loss_class.__name__


PROXY_LOSSES = [
    ProxyLoss(losses.ProxyNCALoss, "proxies", 0, options=(("softmax_scale", 3),)),
    ProxyLoss(losses.ProxyAnchorLoss, "proxies", 0),
    ProxyLoss(losses.NormalizedSoftmaxLoss, "W", 1),
    ProxyLoss(losses.LargeMarginSoftmaxLoss, "W", 1),
    ProxyLoss(losses.SphereFaceLoss, "W", 1),
    ProxyLoss(losses.CosFaceLoss, "W", 1),
    ProxyLoss(losses.ArcFaceLoss, "W", 1),
    ProxyLoss(losses.SubCenterArcFaceLoss, "W", 1, centers=3),
    ProxyLoss(losses.SoftTripleLoss, "fc", 1, centers=2, options=(("centers_per_class", 2),)),
    ProxyLoss(losses.P2SGradLoss, "weight", 1),
]

REDUCERS = {
    "default": lambda num_classes: None,
    "mean": lambda num_classes: reducers.MeanReducer(),
    "sum": lambda num_classes: reducers.SumReducer(),
    "avg_non_zero": lambda num_classes: reducers.AvgNonZeroReducer(),
    "threshold": lambda num_classes: reducers.ThresholdReducer(low=0.1),
    "class_weighted": lambda num_classes: reducers.ClassWeightedReducer(
        torch.linspace(0.5, 2, num_classes, dtype=torch.float64)
    ),
    "per_anchor": lambda num_classes: reducers.PerAnchorReducer(),
    "nothing": lambda num_classes: reducers.DoNothingReducer(),
    "multiple": lambda num_classes: reducers.MultipleReducers({"loss": reducers.SumReducer()}),
}


def draw_batch(seed, batch_size=12, num_classes=5, dim=8, order="random", dtype=torch.float64):
    """Draw embeddings (a leaf) and labels: "random", or "sorted", "balanced" or "dominated"."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(batch_size, dim, dtype=torch.float64, generator=generator)
    labels = torch.randint(num_classes, (batch_size,), generator=generator)
    if order == "balanced":
        labels = torch.arange(batch_size) % num_classes
    if order == "dominated":
        labels[: 2 * batch_size // 3] = 1
    if order == "sorted":
        labels = labels.sort().values
    return embeddings.to(dtype).requires_grad_(), labels
