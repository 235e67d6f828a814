"""The fast path: all cosines of a joined call at once, without a copy of the proxies.

A loss that meets its proxies in nothing but its distance can be given the matrix of distances
instead. Normalisation is part of the product, so that neither unit proxies nor joined ones are ever
written out; and where the augmenter says that it mixes real rows and classes, so are the cosines.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning import distances, losses
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import Module
from torch.nn.functional import normalize

from ..augmenters import SyntheticBatch
from ..augmenters.synthetic_batch import Mixture
from .proxy_bindings import ProxyBinding

# By exact class: a subclass may use its proxies in ways of its own.
_LOSSES = (
    losses.ArcFaceLoss,
    losses.CosFaceLoss,
    losses.NormalizedSoftmaxLoss,
    losses.ProxyAnchorLoss,
    losses.ProxyNCALoss,
    losses.SoftTripleLoss,
    losses.SubCenterArcFaceLoss,
)
_EPS = 1e-12  # as in torch.nn.functional.normalize


def cosines_suffice(
    loss: losses.BaseMetricLossFunction, weight: Tensor, embeddings: Tensor
) -> bool:
    """Tell whether a loss with such a weight needs nothing of its proxies but their cosines."""
    distance: Any = loss.distance
    squared = type(distance) is distances.LpDistance and distance.power == 2
    dot = type(distance) in (distances.CosineSimilarity, distances.DotProductSimilarity)
    return bool(
        type(loss) in _LOSSES
        and (squared or (dot and distance.power == 1))
        and distance.p == 2
        and distance.normalize_embeddings
        # What it records is of the vectors.
        and not distance.collect_stats
        and weight.dtype == embeddings.dtype in (torch.float32, torch.float64)
    )


def joined_cosines(
    batch: SyntheticBatch, binding: ProxyBinding, weight: Tensor, embeddings: Tensor
) -> Tensor:
    """Return the cosines of real and synthetic rows to real and synthetic proxies.

    Args:
        batch: the synthetic rows and proxies.
        binding: of the loss.
        weight: of the loss, of C K proxies.
        embeddings: the real rows, [B, D].

    Returns:
        [B + M, (C + E) K], the rows as in (real, synthetic), and the columns likewise.
    """
    columns = weight.movedim(binding.class_dim, 1)
    # Autocast would compute the products in half precision.
    with torch.autocast(embeddings.device.type, enabled=False):
        if batch.row_mixture is None or batch.class_mixture is None:
            rows = normalize(torch.cat([embeddings, batch.embeddings]))
            new_columns = batch.proxies.flatten(0, -2).T
            return torch.cat([_cosines(rows, columns), _cosines(rows, new_columns)], dim=1)
        return _mix(
            _cosines(normalize(embeddings), columns), batch.row_mixture, batch.class_mixture
        )


def _cosines(rows: Tensor, columns: Tensor) -> Tensor:
    return _Cosines.apply(rows, columns)


def _mix(cosines: Tensor, in_rows: Mixture, in_classes: Mixture) -> Tensor:
    weights, first, second = in_classes.weights, in_classes.first, in_classes.second
    if weights.ndim == 3:
        # The columns of a class's centres stand side by side.
        centers = torch.arange(weights.shape[1], device=first.device)
        first = (first.unsqueeze(1) * len(centers) + centers).flatten()
        second = (second.unsqueeze(1) * len(centers) + centers).flatten()
        weights = weights.flatten(0, 1)
    rows = in_rows.first, in_rows.second, in_rows.weights
    return _Mixed.apply(cosines, *rows, first, second, weights)


def stand_in(weight: Tensor, num_proxies: int, class_dim: int) -> Tensor:
    """Return a weight of as many proxies that takes no memory: a loss asks it for its size."""
    shape = list(weight.shape)
    shape[class_dim] = num_proxies
    return weight.new_zeros(()).expand(shape)


class KnownCosines(Module):
    """A distance that knows the cosines of what it is going to be asked for."""

    def __init__(self, distance: Module, cosines: Tensor) -> None:
        super().__init__()
        self.is_inverted = distance.is_inverted
        self.margin = distance.margin
        # On the sphere, the squared distance is 2 - 2 cos.
        self.matrix = cosines if distance.is_inverted else 2 - 2 * cosines

    def normalize(self, vectors: Tensor, **_: Any) -> Tensor:
        """Return the stand-in for the proxies as it is."""
        return vectors

    def forward(self, *_: Tensor) -> Tensor:
        """Return the matrix."""
        return self.matrix


class _Cosines(torch.autograd.Function):
    """The cosines of unit rows x, [B, D], to columns w, [D, C]: s = x w / |w|."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(columns, dim=0).clamp_min(_EPS)
        cosines = (rows @ columns).div_(norm)
        ctx.save_for_backward(rows, columns, norm, cosines)
        return cosines

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns, norm, cosines = ctx.saved_tensors
        # d s / d w = (x - s w / |w|) / |w|; the second term is that of the norm.
        along = torch.where(norm > _EPS, (grad * cosines).sum(dim=0) / norm**2, 0)
        grad = grad / norm
        # In the layout of the weight, whichever it is.
        grad_columns = rows.T @ grad if columns.is_contiguous() else (grad.T @ rows).T
        return grad @ columns.T, grad_columns.addcmul_(columns, along, value=-1)


class _Mixed(torch.autograd.Function):
    """Cosines of rows to columns, [B, C], and beside them those of mixed rows and columns."""

    @staticmethod
    def forward(
        ctx: Any,
        cosines: Tensor,
        i: Tensor,
        j: Tensor,
        row_weights: Tensor,
        a: Tensor,
        b: Tensor,
        column_weights: Tensor,
    ) -> Tensor:
        rows, columns = cosines.shape
        joined = cosines.new_empty(rows + len(i), columns + len(a))
        real = joined[:, :columns]
        real[:rows] = cosines
        v, w = row_weights.T.unsqueeze(2)
        torch.mul(cosines[i], v, out=real[rows:]).addcmul_(cosines[j], w)
        v, w = column_weights.T
        torch.mul(real[:, a], v, out=joined[:, columns:]).addcmul_(real[:, b], w)
        ctx.shape = cosines.shape
        ctx.save_for_backward(joined, i, j, row_weights, a, b, column_weights)
        return joined

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        joined, i, j, row_weights, a, b, column_weights = ctx.saved_tensors
        rows, columns = ctx.shape
        # From mixed columns to real ones, then from mixed rows to real ones.
        mixed, real = grad[:, columns:], grad[:, :columns].clone()
        v, w = column_weights.T
        real.index_add_(1, a, mixed * v).index_add_(1, b, mixed * w)
        of_columns = [(mixed * joined[:, k]).sum(dim=0) for k in (a, b)]

        mixed, real = real[rows:], real[:rows]
        v, w = row_weights.T.unsqueeze(2)
        of_rows = [(mixed * joined[k, :columns]).sum(dim=1) for k in (i, j)]
        real.index_add_(0, i, mixed * v).index_add_(0, j, mixed * w)
        of_weights = (torch.stack(of, dim=1) for of in (of_rows, of_columns))
        grad_rows, grad_columns = of_weights
        return real, None, None, grad_rows, None, None, grad_columns
