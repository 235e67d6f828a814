"""The fast path: all cosines of a joined call at once, without a copy of the proxies.

A loss that meets its proxies in nothing but its distance can be given the matrix of distances
instead. Normalisation is part of the product, so that neither unit proxies nor joined ones are ever
written out; and where the augmenter says that it mixes real rows and classes, so are the cosines.
"""

from __future__ import annotations

from dataclasses import dataclass
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
        in_rows = _Mix.of(batch.row_mixture, batch.embeddings)
        in_columns = _Mix.of(batch.class_mixture, batch.proxies)
        joined: Tensor = _MixedCosines.apply(normalize(embeddings), columns, in_rows, in_columns)
        return joined


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


def _cosines(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the cosines of unit rows, [B, D], to columns of any length, [D, C]."""
    lengths = torch.linalg.vector_norm(columns, dim=0).clamp_min(_EPS)
    return (rows @ columns) / lengths


@dataclass(frozen=True)
class _Mix:
    """Unit vectors v = (lambda a + (1 - lambda) b) / c, and where a and b are among the real ones.

    Args:
        first: of a, [N].
        second: of b, [N].
        shares: lambda / c and (1 - lambda) / c, each [N].
        vectors: v, [N, D].
    """

    first: Tensor
    second: Tensor
    shares: tuple[Tensor, Tensor]
    vectors: Tensor

    @classmethod
    def of(cls, mixture: Mixture, vectors: Tensor) -> _Mix:
        first, second, norms = mixture.first, mixture.second, mixture.norms.detach().to(vectors)
        if norms.ndim == 2:
            # The K centres of a class stand side by side.
            centers = torch.arange(norms.shape[1], device=first.device)
            first = (first.unsqueeze(1) * len(centers) + centers).flatten()
            second = (second.unsqueeze(1) * len(centers) + centers).flatten()
            norms = norms.flatten()
        shares = mixture.weight / norms, (1 - mixture.weight) / norms
        return cls(first, second, shares, vectors.detach().flatten(0, -2))

    def along(self, grad_first: Tensor, grad_second: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of a and b that come through c, [N, D], from those of the shares."""
        # c is the length of lambda a + (1 - lambda) b: its gradients are lambda v, (1 - lambda) v.
        u, w = self.shares
        through = -(grad_first * u + grad_second * w)
        return (through * u).unsqueeze(1) * self.vectors, (through * w).unsqueeze(1) * self.vectors


class _MixedCosines(torch.autograd.Function):
    """Cosines of real and mixed unit rows to real and mixed columns, [B + M, C + E].

    The first block is s = x w / |w|; its rows and columns are mixed to the others.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, in_rows: _Mix, in_columns: _Mix) -> Tensor:
        lengths = torch.linalg.vector_norm(columns, dim=0).clamp_min(_EPS)
        cosines = (rows @ columns).div_(lengths)
        (num_rows, num_columns), extra = cosines.shape, (len(in_rows.first), len(in_columns.first))
        joined = cosines.new_empty(num_rows + extra[0], num_columns + extra[1])
        real = joined[:, :num_columns]
        real[:num_rows] = cosines
        u, w = in_rows.shares
        mixed = cosines[in_rows.first].mul_(u.unsqueeze(1))
        real[num_rows:] = mixed.addcmul_(cosines[in_rows.second], w.unsqueeze(1))
        u, w = in_columns.shares
        mixed = real[:, in_columns.first].mul_(u)
        joined[:, num_columns:] = mixed.addcmul_(real[:, in_columns.second], w)
        ctx.mixes = in_rows, in_columns
        ctx.save_for_backward(rows, columns, lengths, joined)
        return joined

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        rows, columns, lengths, joined = ctx.saved_tensors
        in_rows, in_columns = ctx.mixes
        num_rows, num_columns = len(rows), len(lengths)

        # Back from the mixed columns to the real ones, then from the mixed rows.
        real, mixed = grad[:, :num_columns].clone(), grad[:, num_columns:]
        u, w = in_columns.shares
        ends = in_columns.first, in_columns.second
        real.index_add_(1, ends[0], mixed * u).index_add_(1, ends[1], mixed * w)
        of_columns = in_columns.along(*((mixed * joined[:, end]).sum(dim=0) for end in ends))
        real, mixed = real[:num_rows], real[num_rows:]
        cosines = joined[:num_rows, :num_columns]
        u, w = in_rows.shares
        ends = in_rows.first, in_rows.second
        of_rows = in_rows.along(*((mixed * cosines[end]).sum(dim=1) for end in ends))
        real.index_add_(0, ends[0], mixed * u.unsqueeze(1))
        real.index_add_(0, ends[1], mixed * w.unsqueeze(1))

        # Back from the cosines: d s / d w = (x - s w / |w|) / |w|, where the second term is |w|'s.
        along = (real * cosines).sum(dim=0).div_(lengths**2)
        real = real.div_(lengths)
        grad_rows = real @ columns.T
        # In the layout of the weight, whichever it is.
        grad_columns = rows.T @ real if columns.is_contiguous() else (real.T @ rows).T
        grad_columns.addcmul_(columns, along, value=-1)
        for k, (end, of_end) in enumerate(zip(ends, of_rows, strict=True)):
            grad_rows.index_add_(0, end, of_end)
            end, of_end = (in_columns.first, in_columns.second)[k], of_columns[k]
            unit = columns[:, end].T / lengths[end].unsqueeze(1)
            across = of_end - (of_end * unit).sum(dim=1, keepdim=True) * unit
            grad_columns.index_add_(1, end, (across / lengths[end].unsqueeze(1)).T)
        return grad_rows, grad_columns, None, None
