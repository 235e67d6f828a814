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
from ..pml import loss_class
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
        loss_class(loss) in _LOSSES
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
        # What is not mixed comes first and counts as real.
        other_rows = len(batch) - len(batch.row_mixture.norms)
        other_classes = batch.num_new_classes - len(batch.class_mixture.norms)
        if other_rows:
            embeddings = torch.cat([embeddings, batch.embeddings[:other_rows]])
        if other_classes:
            others = batch.proxies[:other_classes].flatten(0, -2).T
            columns = torch.cat([columns, others], dim=1)
        in_rows = _Mix.of(batch.row_mixture, batch.embeddings[other_rows:])
        in_columns = _Mix.of(batch.class_mixture, batch.proxies[other_classes:])
        joined: Tensor = _MixedCosines.apply(embeddings, columns, in_rows, in_columns)
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
    return (rows @ columns) / _lengths(columns, dim=0)


def _lengths(vectors: Tensor, dim: int) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=dim).clamp_min(_EPS)


@dataclass(frozen=True)
class _Mix:
    """Mixes of unit vectors, v_n = (lambda u_i + (1 - lambda) u_j) / c_n, where c_n is the length.

    Args:
        members: which of the vectors the u are, [G].
        pairs: i and j, which count among the members, [2, N].
        weight: lambda.
        units: u, [G, D].
        norms: c, [N].
        mixed: v, [N, D].
    """

    members: Tensor
    pairs: Tensor
    weight: float
    units: Tensor
    norms: Tensor
    mixed: Tensor

    @classmethod
    def of(cls, mixture: Mixture, mixed: Tensor) -> _Mix:
        members, pairs = mixture.members, mixture.pairs
        if mixed.ndim == 3:
            # The K centres of a class stand side by side.
            centers = torch.arange(mixed.shape[1], device=mixed.device)
            members = (members.unsqueeze(1) * len(centers) + centers).flatten()
            pairs = (pairs.unsqueeze(2) * len(centers) + centers).flatten(1)
        units, norms = (part.detach().to(mixed) for part in (mixture.units, mixture.norms))
        vectors = units.flatten(0, -2), norms.flatten(), mixed.detach().flatten(0, -2)
        return cls(members, pairs, mixture.weight, *vectors)

    def write_cosines(self, of_all: Tensor, dim: int, out: Tensor) -> None:
        """Mix cosines of all vectors, which are counted by that dimension."""
        norms = self.norms.unsqueeze(1 - dim)
        first, second = (of_all.index_select(dim, end) for end in self.members[self.pairs])
        torch.mul(first, self.weight / norms, out=out).addcmul_(second, (1 - self.weight) / norms)

    def give_back(self, grad: Tensor, cosines: Tensor, dim: int, to_all: Tensor) -> Tensor:
        """Add the gradients of mixed cosines to those of the cosines that they were mixed of.

        Returns:
            The gradients of u that come through c, [G, D].
        """
        grad = grad / self.norms.unsqueeze(1 - dim)
        self._add_to_ends(self.members[self.pairs], grad, dim, to_all)
        # By c, a cosine has the gradient -cosine / c; and c by u_i, of which it is made, lambda v.
        through_norms = grad.mul_(cosines).sum(dim=1 - dim).neg_()
        of_units = torch.zeros_like(self.units)
        self._add_to_ends(self.pairs, self.mixed * through_norms.unsqueeze(1), 0, of_units)
        return of_units

    def _add_to_ends(self, ends: Tensor, grad: Tensor, dim: int, to_all: Tensor) -> None:
        for end, share in zip(ends, (self.weight, 1 - self.weight), strict=True):
            to_all.index_add_(dim, end, grad, alpha=share)


class _MixedCosines(torch.autograd.Function):
    """Cosines of real and mixed rows to real and mixed columns, of any length, [B + M, C + E].

    The first block is x w / (|x| |w|); its columns and rows are mixed to the others.
    """

    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, columns: Tensor, in_rows: _Mix, in_columns: _Mix
    ) -> Tensor:
        row_lengths, lengths = _lengths(embeddings, dim=1), _lengths(columns, dim=0)
        rows = embeddings / row_lengths.unsqueeze(1)
        num_rows, num_columns = len(rows), len(lengths)
        joined = rows.new_empty(num_rows + len(in_rows.norms), num_columns + len(in_columns.norms))
        of_real = joined[:num_rows]
        cosines = torch.mm(rows, columns, out=of_real[:, :num_columns]).div_(lengths)
        in_columns.write_cosines(cosines, 1, out=of_real[:, num_columns:])
        in_rows.write_cosines(of_real, 0, out=joined[num_rows:])
        ctx.mixes = in_rows, in_columns
        ctx.save_for_backward(rows, columns, row_lengths, lengths, joined)
        return joined

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        rows, columns, row_lengths, lengths, joined = ctx.saved_tensors
        in_rows, in_columns = ctx.mixes
        num_rows, num_columns = len(rows), len(lengths)

        # Back from the mixed rows to the real ones, then from the mixed columns.
        real = grad[:num_rows].clone()
        of_rows = in_rows.give_back(grad[num_rows:], joined[num_rows:], 0, to_all=real)
        real, mixed = real[:, :num_columns], real[:, num_columns:]
        cosines, of_mixed = joined[:num_rows, :num_columns], joined[:num_rows, num_columns:]
        of_columns = in_columns.give_back(mixed, of_mixed, 1, to_all=real)

        # Back from the cosines: d s / d w = (x - s w / |w|) / |w|, where the second term is |w|'s.
        along = (real * cosines).sum(dim=0).div_(lengths**2)
        real.div_(lengths)
        grad_rows = (real @ columns.T).index_add_(0, in_rows.members, of_rows)
        grad_rows = _across(grad_rows, rows).div_(row_lengths.unsqueeze(1))
        # In the layout of the weight, whichever it is.
        grad_columns = rows.T @ real if columns.is_contiguous() else (real.T @ rows).T
        grad_columns.addcmul_(columns, along, value=-1)
        of_columns = _across(of_columns, in_columns.units)
        of_columns.div_(lengths[in_columns.members].unsqueeze(1))
        grad_columns.index_add_(1, in_columns.members, of_columns.T)
        return grad_rows, grad_columns, None, None


def _across(gradients: Tensor, units: Tensor) -> Tensor:
    """Take from gradients, row by row, what points along a unit vector."""
    return gradients.addcmul_(units, (gradients * units).sum(dim=1, keepdim=True), value=-1)
