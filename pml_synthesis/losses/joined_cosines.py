"""The fast path: all cosines of a joined call at once, without a copy of the proxies.

If a loss uses its proxies only through its distance, the precomputed distance matrix can replace
them. Normalisation is part of the product, so that neither unit proxies nor joined ones are ever
written out; and where the augmenter says that it mixes real embeddings and classes, the cosines are
mixed instead of computed anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pytorch_metric_learning import distances, losses
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import Module

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
# Mixing cosines divides their rounding errors by the norm of the mix, in rows and in columns: they
# grow 400 times at most, which leaves four to five digits in float32.
_SHORTEST_MIX = 0.05


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
        # Its statistics need the vectors, not the cosines.
        and not distance.collect_stats
        and weight.dtype == embeddings.dtype in (torch.float32, torch.float64)
        # They may change the vectors, or look at them.
        and not (_has_hooks(loss) or _has_hooks(distance))
    )


def _has_hooks(module: Module) -> bool:
    kinds = ("forward_pre", "forward", "backward_pre", "backward")
    return any(getattr(module, f"_{kind}_hooks") for kind in kinds)


@dataclass(frozen=True)
class JoinedCosines:
    """The cosines of real and synthetic embeddings to real and synthetic proxies.

    Args:
        matrix: the inner products of the normalised vectors, [B + M, (C + E) K], the rows as in
            (real, synthetic), and the columns likewise.
        row_norms: the norms of the normalised embeddings, [B + M]: 1, or less where a vector has no
            direction.
        column_norms: those of the normalised proxies, [(C + E) K].
    """

    matrix: Tensor
    row_norms: Tensor
    column_norms: Tensor

    @property
    def shape(self) -> torch.Size:
        """The shape of the matrix."""
        return self.matrix.shape

    def squared_distances(self) -> Tensor:
        r"""Return :math:`|a|^2 + |b|^2 - 2 \langle a, b \rangle`, [B + M, (C + E) K]."""
        squares = torch.add(self.column_norms**2, self.matrix, alpha=-2)
        return squares.add_(self.row_norms.unsqueeze(1) ** 2)


def joined_cosines(
    batch: SyntheticBatch, binding: ProxyBinding, weight: Tensor, embeddings: Tensor
) -> JoinedCosines:
    """Compute the cosines of real and synthetic embeddings to real and synthetic proxies.

    Args:
        batch: the synthetic embeddings and proxies.
        binding: of the loss.
        weight: of the loss, of C K proxies.
        embeddings: the real ones, [B, D].
    """
    in_rows, in_columns = _mixes(batch)
    # Of a batch with mixes, what is not mixed comes first and counts as real.
    rows = _split_off(embeddings, batch.embeddings, in_rows, dim=0)
    columns = _split_off(
        weight.movedim(binding.class_dim, 1), batch.proxies.flatten(0, -2).T, in_columns, dim=1
    )
    # Autocast would compute the products in half precision.
    with torch.autocast(embeddings.device.type, enabled=False):
        row_norms = torch.cat([torch.linalg.vector_norm(part, dim=1) for part in rows])
        column_norms = torch.cat([torch.linalg.vector_norm(part, dim=0) for part in columns])
        row_lengths, column_lengths = row_norms.clamp_min(_EPS), column_norms.clamp_min(_EPS)
        if in_rows is None or in_columns is None:
            units = torch.cat(rows) / row_lengths.unsqueeze(1)
            matrix = torch.cat([units @ part for part in columns], dim=1) / column_lengths
        else:
            matrix = _MixedCosines.apply(
                rows[0],
                columns[0],
                row_lengths[: len(rows[0])].detach(),
                column_lengths[: columns[0].shape[1]].detach(),
                in_rows,
                in_columns,
            )
        # As constants: the norm of a normalised vector does not change with the vector.
        return JoinedCosines(
            matrix, (row_norms / row_lengths).detach(), (column_norms / column_lengths).detach()
        )


def _mixes(batch: SyntheticBatch) -> tuple[_Mix, _Mix] | tuple[None, None]:
    """Return the mixes of a batch, those of its last embeddings and of its last classes."""
    mixtures = batch.row_mixture, batch.class_mixture
    vectors = batch.embeddings, batch.proxies
    mixes = [
        _Mix.of(mixture, part[len(part) - len(mixture.norms) :]) if mixture is not None else None
        for mixture, part in zip(mixtures, vectors, strict=True)
    ]
    in_rows, in_columns = mixes
    return (None, None) if in_rows is None or in_columns is None else (in_rows, in_columns)


def _split_off(real: Tensor, new: Tensor, mix: _Mix | None, dim: int) -> tuple[Tensor, Tensor]:
    """Return the vectors that are not mixed, the real ones first, and those that are."""
    others = new.shape[dim] - (new.shape[dim] if mix is None else len(mix.norms))
    if others == 0:
        return real, new
    first, mixed = new.split([others, new.shape[dim] - others], dim)
    return torch.cat([real, first], dim), mixed


def stand_in(weight: Tensor, num_proxies: int, class_dim: int) -> Tensor:
    """Return a zero-memory placeholder with the shape of the joined weight.

    The loss reads only its size.
    """
    shape = list(weight.shape)
    shape[class_dim] = num_proxies
    return weight.new_zeros(()).expand(shape)


class KnownCosines(Module):
    """A distance that knows the cosines that it is going to be asked for."""

    def __init__(self, distance: Module, cosines: JoinedCosines) -> None:
        super().__init__()
        self.is_inverted = distance.is_inverted
        self.margin = distance.margin
        self.matrix = cosines.matrix if self.is_inverted else cosines.squared_distances()

    def normalize(self, vectors: Tensor, **_: Any) -> Tensor:
        """Return the stand-in for the proxies as it is."""
        return vectors

    def forward(self, *_: Tensor) -> Tensor:
        """Return the matrix."""
        return self.matrix


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
    def of(cls, mixture: Mixture | None, mixed: Tensor) -> _Mix | None:
        """Return the mix, or None if cosines cannot be mixed for it, or not precisely."""
        # A mix of unit vectors is at least |1 - 2 lambda| long, so no norm need be looked at.
        if mixture is None or abs(1 - 2 * mixture.weight) < _SHORTEST_MIX:
            return None
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

    def backward(self, grad: Tensor, cosines: Tensor, dim: int, grad_cosines: Tensor) -> Tensor:
        """Add the gradients of mixed cosines to those of the cosines that they were mixed of.

        Returns:
            The gradients of u that come through c, [G, D].
        """
        grad = grad / self.norms.unsqueeze(1 - dim)
        self._add_to_ends(self.members[self.pairs], grad, dim, grad_cosines)
        # By c, a cosine has the gradient -cosine / c; and c by u_i, of which it is made, lambda v.
        through_norms = grad.mul_(cosines).sum(dim=1 - dim).neg_()
        grad_units = torch.zeros_like(self.units)
        self._add_to_ends(self.pairs, self.mixed * through_norms.unsqueeze(1), 0, grad_units)
        return grad_units

    def _add_to_ends(self, ends: Tensor, grad: Tensor, dim: int, total: Tensor) -> None:
        for end, share in zip(ends, (self.weight, 1 - self.weight), strict=True):
            total.index_add_(dim, end, grad, alpha=share)


class _MixedCosines(torch.autograd.Function):
    """Cosines of real and mixed rows to real and mixed columns, of any length, [B + M, C + E].

    The first block is x w / (|x| |w|); its columns and rows are mixed to the others. The lengths
    are given, and the gradients through them belong to those of the vectors.
    """

    @staticmethod
    def forward(
        ctx: Any,
        embeddings: Tensor,
        columns: Tensor,
        row_lengths: Tensor,
        lengths: Tensor,
        in_rows: _Mix,
        in_columns: _Mix,
    ) -> Tensor:
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
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns, row_lengths, lengths, joined = ctx.saved_tensors
        in_rows, in_columns = ctx.mixes
        num_rows, num_columns = len(rows), len(lengths)

        # Back from the mixed rows to the real ones, then from the mixed columns.
        real = grad[:num_rows].clone()
        of_rows = in_rows.backward(grad[num_rows:], joined[num_rows:], 0, grad_cosines=real)
        real, mixed = real[:, :num_columns], real[:, num_columns:]
        cosines, of_mixed = joined[:num_rows, :num_columns], joined[:num_rows, num_columns:]
        of_columns = in_columns.backward(mixed, of_mixed, 1, grad_cosines=real)

        # Back from the cosines: d s / d w = (x - s w / |w|) / |w|, where the second term is |w|'s.
        along = (real * cosines).sum(dim=0).div_(lengths**2)
        real.div_(lengths)
        grad_rows = (real @ columns.T).index_add_(0, in_rows.members, of_rows)
        grad_rows = _project_out(grad_rows, rows).div_(row_lengths.unsqueeze(1))
        # In the layout of the weight, whichever it is.
        grad_columns = rows.T @ real if columns.is_contiguous() else (real.T @ rows).T
        grad_columns.addcmul_(columns, along, value=-1)
        of_columns = _project_out(of_columns, in_columns.units)
        of_columns.div_(lengths[in_columns.members].unsqueeze(1))
        grad_columns.index_add_(1, in_columns.members, of_columns.T)
        return grad_rows, grad_columns, None, None, None, None


def _project_out(gradients: Tensor, units: Tensor) -> Tensor:
    """Take from gradients, row by row, what points along a unit vector."""
    return gradients.addcmul_(units, (gradients * units).sum(dim=1, keepdim=True), value=-1)
