"""The fast path: all cosines of a joined call at once, without a copy of the proxies.

If a loss uses its proxies only through its distance, the precomputed distance matrix can replace
them. Normalisation is part of the product, so that neither unit proxies nor joined ones are ever
written out; and where the augmenter says that it mixes real embeddings and classes, the cosines are
mixed instead of computed anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from pytorch_metric_learning import distances, losses
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import normalize

from ..augmenters import SyntheticBatch
from ..augmenters.synthetic_batch import Mixture
from ..functional import mix_units
from ..functional.unit_vectors import unit
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
# These normalize their proxies before their distance does it again.
_NORMALIZING_TWICE = (losses.NormalizedSoftmaxLoss,)
# Mixing cosines divides their rounding errors by the norm of the mix, in rows and in columns: they
# grow 400 times at most, which leaves four to five digits in float32.
_SHORTEST_MIX = 0.05
_BLOCK = 1024  # proxies whose squares are in memory at once


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
        row_norms: the norms of the embeddings, as constants, [B + M].
        column_norms: those of the proxies, [(C + E) K].
        shortest: the norm up to which a proxy is divided by a constant, that norm.
    """

    matrix: Tensor
    row_norms: Tensor
    column_norms: Tensor
    shortest: float

    @property
    def shape(self) -> torch.Size:
        """The shape of the matrix."""
        return self.matrix.shape

    def squared_distances(self) -> Tensor:
        r"""Return :math:`|a|^2 + |b|^2 - 2 \langle a, b \rangle`, [B + M, (C + E) K]."""
        of_rows = _normalized_norms(self.row_norms, _EPS).square()
        of_columns = _normalized_norms(self.column_norms, self.shortest).square()
        return torch.add(of_columns, self.matrix, alpha=-2).add_(of_rows.unsqueeze(1))


def _normalized_norms(norms: Tensor, shortest: float) -> Tensor:
    """Return the norms of normalised vectors: 1, or less where a vector has no direction.

    What is so long that its norm overflows becomes 0.
    """
    return (norms / norms.clamp_min(shortest)).nan_to_num(nan=0.0)


def shortest_proxy(loss: losses.BaseMetricLossFunction) -> float:
    """Return the norm up to which a loss divides its proxies by a constant, that norm."""
    return _EPS**2 if loss_class(loss) in _NORMALIZING_TWICE else _EPS


def joined_cosines(
    batch: SyntheticBatch,
    binding: ProxyBinding,
    weight: Tensor,
    embeddings: Tensor,
    shortest: float = _EPS,
) -> JoinedCosines:
    """Compute the cosines of real and synthetic embeddings to real and synthetic proxies.

    Args:
        batch: the synthetic embeddings and proxies.
        binding: of the loss.
        weight: of the loss, of C K proxies.
        embeddings: the real ones, [B, D].
        shortest: what :func:`shortest_proxy` says of the loss.
    """
    in_rows, in_columns = _mixes(batch)
    # Of a batch with mixes, what is not mixed comes first and counts as real.
    rows = _split_off(embeddings, batch.embeddings, in_rows, dim=0)
    columns = _split_off(
        weight.movedim(binding.class_dim, 1), batch.proxies.flatten(0, -2).T, in_columns, dim=1
    )
    # Autocast would compute the products in half precision.
    with torch.autocast(embeddings.device.type, enabled=False):
        if in_rows is None or in_columns is None:
            row_norms, column_norms = _norms(rows, dim=1), _norms(columns, dim=0)
            units = torch.cat(rows) / row_norms.clamp_min(_EPS).unsqueeze(1)
            products = torch.cat([units @ part for part in columns], dim=1)
            matrix = products / column_norms.clamp_min(shortest)
            return JoinedCosines(matrix, row_norms.detach(), column_norms.detach(), shortest)
        # The gradients through them belong to those of the vectors.
        with torch.no_grad():
            row_norms, column_norms = _norms(rows, dim=1), _norms_of_columns(*columns)
            of_rows = _Lengths.of(row_norms, _EPS, in_rows)
            of_columns = _Lengths.of(column_norms, shortest, in_columns)
        matrix = _MixedCosines.apply(rows[0], columns[0], of_rows, of_columns, in_rows, in_columns)
        return JoinedCosines(matrix, row_norms, column_norms, shortest)


def _norms(parts: tuple[Tensor, Tensor], dim: int) -> Tensor:
    return torch.cat([torch.linalg.vector_norm(part, dim=dim) for part in parts])


def _norms_of_columns(real: Tensor, mixed: Tensor) -> Tensor:
    """Return the norms of columns as constants."""
    if not real.is_cpu or real.stride(0) == 1:
        return _norms((real, mixed), dim=0)
    # On the CPU, vector_norm takes three times as long where a vector is not in one piece. Squares
    # are summed in blocks, so that they take no memory for all proxies.
    squares = [block.square().sum(dim=0) for block in real.split(_BLOCK, dim=1)]
    return torch.cat([*(part.sqrt_() for part in squares), torch.linalg.vector_norm(mixed, dim=0)])


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
class _Lengths:
    """What vectors are divided by, the real ones first, which are mixed to the others.

    Args:
        real: what the loss divides the real vectors by, their norms at least.
        shortest: the norm up to which it divides by a constant, that norm.
        constant: which real vectors are not longer.
        mixed_constant: which mixed ones are not.
        mixed_ratios: what the loss divides a mixed vector by, over what the augmenter divides it by
            at the end: 1, or less where a vector is so short that the augmenter leaves it as it is.
        factors: how much the cosines of both ends count in those of their mix, [N] each.
    """

    real: Tensor
    shortest: float
    constant: Tensor
    mixed_constant: Tensor
    mixed_ratios: Tensor
    factors: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, norms: Tensor, shortest: float, mix: _Mix) -> _Lengths:
        """Return the lengths for the norms of all vectors."""
        num_real = len(norms) - len(mix.norms)
        lengths, constant = norms.clamp_min(shortest), norms <= shortest
        ratios = lengths.masked_fill(norms > _EPS, 1)
        mixed_ratios = ratios[num_real:]
        inverse = (mix.norms * mixed_ratios).reciprocal_()
        first, second = (
            (inverse * share).mul_(ratios[end])
            for share, end in zip(mix.shares, mix.ends, strict=True)
        )
        return cls(
            lengths[:num_real],
            shortest,
            constant[:num_real],
            constant[num_real:],
            mixed_ratios,
            (first, second),
        )


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
        # As lerp has rounded it: 1 - lambda is all that a mix with a vector of no length has.
        weight = torch.tensor(mixture.weight, dtype=mixture.units.dtype).item()
        return cls(members, pairs, weight, *vectors)

    @cached_property
    def ends(self) -> tuple[Tensor, ...]:
        """Which of the vectors are mixed: the first and the second ones, [N] each."""
        return self.members[self.pairs].unbind()

    @property
    def shares(self) -> tuple[float, float]:
        """How much both ends count."""
        return self.weight, 1 - self.weight

    def write_vectors(self, of_all: Tensor) -> Tensor:
        """Return v, [N, D], as a function of all vectors."""
        units = unit(of_all)
        first, second = (units.index_select(0, end) for end in self.ends)
        return mix_units(first, second, self.weight)[0]

    def write_cosines(self, of_all: Tensor, dim: int, lengths: _Lengths, out: Tensor) -> None:
        """Mix cosines of all vectors, which are counted by that dimension."""
        first, second = (of_all.index_select(dim, end) for end in self.ends)
        of_first, of_second = (factor.unsqueeze(1 - dim) for factor in lengths.factors)
        torch.mul(first, of_first, out=out).addcmul_(second, of_second)

    def backward(
        self, grad: Tensor, cosines: Tensor, dim: int, lengths: _Lengths, grad_cosines: Tensor
    ) -> Tensor:
        """Add the gradients of mixed cosines to those of the cosines that they were mixed of.

        Args:
            grad: of the mixed cosines.
            cosines: the mixed ones.
            dim: that counts the vectors.
            lengths: of the vectors.
            grad_cosines: those of the cosines of all vectors.

        Returns:
            The gradients that come through the lengths of the mixes, for :meth:`add_through`, [N].
        """
        for end, factor in zip(self.ends, lengths.factors, strict=True):
            grad_cosines.index_add_(dim, end, grad * factor.unsqueeze(1 - dim))
        through = (grad * cosines).sum(dim=1 - dim).neg_().div_(lengths.mixed_ratios)
        return through.masked_fill_(lengths.mixed_constant, 0)

    def add_through(
        self, through: Tensor, ends: tuple[Tensor, ...], lengths: _Lengths, total: Tensor
    ) -> None:
        """Add the gradients through the lengths of the mixes to those of normalised vectors.

        By c, a cosine has the gradient -cosine / c; and c by u_i, of which it is made, lambda v.

        Args:
            through: as returned by :meth:`backward`, [N].
            ends: where both vectors of a mix are in `total`, [N] each.
            lengths: of the vectors.
            total: the gradients of the vectors as the loss divides them.
        """
        for end, factor in zip(ends, lengths.factors, strict=True):
            total.index_add_(0, end, self.mixed * (through * factor).unsqueeze(1))


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
        of_rows: _Lengths,
        of_columns: _Lengths,
        in_rows: _Mix,
        in_columns: _Mix,
    ) -> Tensor:
        rows = embeddings / of_rows.real.unsqueeze(1)
        num_rows, num_columns = len(rows), columns.shape[1]
        joined = rows.new_empty(num_rows + len(in_rows.norms), num_columns + len(in_columns.norms))
        of_real = joined[:num_rows]
        cosines = torch.mm(rows, columns, out=of_real[:, :num_columns]).div_(of_columns.real)
        in_columns.write_cosines(cosines, 1, of_columns, out=of_real[:, num_columns:])
        in_rows.write_cosines(of_real, 0, of_rows, out=joined[num_rows:])
        ctx.lengths, ctx.mixes = (of_rows, of_columns), (in_rows, in_columns)
        ctx.save_for_backward(embeddings, columns, rows, joined)
        return joined

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        embeddings, columns, rows, joined = ctx.saved_tensors
        of_rows, of_columns = ctx.lengths
        in_rows, in_columns = ctx.mixes
        if torch.is_grad_enabled():
            # With create_graph=True: the gradients are to have gradients.
            cosines = _cosines_of_vectors(embeddings, columns, of_columns, in_rows, in_columns)
            inputs = [x for x in (embeddings, columns) if x.requires_grad]
            found = iter(torch.autograd.grad(cosines, inputs, grad, create_graph=True))
            of_both = (next(found) if needed else None for needed in ctx.needs_input_grad[:2])
            return *of_both, None, None, None, None
        num_rows, num_columns = len(rows), columns.shape[1]

        # Back from the mixed rows to the real ones, then from the mixed columns.
        real = grad[:num_rows].clone()
        through_rows = in_rows.backward(grad[num_rows:], joined[num_rows:], 0, of_rows, real)
        real, mixed = real[:, :num_columns], real[:, num_columns:]
        cosines, of_mixed = joined[:num_rows, :num_columns], joined[:num_rows, num_columns:]
        through_columns = in_columns.backward(mixed, of_mixed, 1, of_columns, real)

        # Back from the cosines: d s / d w = (x - s w / |w|) / |w|, where the second term is |w|'s.
        lengths = of_columns.real
        squares = lengths.square().clamp_min_(torch.finfo(lengths.dtype).tiny)
        along = (real * cosines).sum(dim=0).div_(squares)
        along.masked_fill_(of_columns.constant, 0)
        real.div_(lengths)
        grad_rows = real @ columns.T
        in_rows.add_through(through_rows, in_rows.ends, of_rows, grad_rows)
        along_rows = _along(grad_rows, rows).masked_fill_(of_rows.constant.unsqueeze(1), 0)
        grad_rows.addcmul_(rows, along_rows, value=-1).div_(of_rows.real.unsqueeze(1))
        # In the layout of the weight, whichever it is.
        grad_columns = rows.T @ real if columns.is_contiguous() else (real.T @ rows).T
        grad_columns.addcmul_(columns, along, value=-1)
        units = in_columns.units
        grad_units = torch.zeros_like(units)
        in_columns.add_through(through_columns, in_columns.pairs.unbind(), of_columns, grad_units)
        grad_units.addcmul_(units, _along(grad_units, units), value=-1)
        grad_units.div_(lengths[in_columns.members].unsqueeze(1))
        grad_columns.index_add_(1, in_columns.members, grad_units.T)
        return grad_rows, grad_columns, None, None, None, None


def _cosines_of_vectors(
    embeddings: Tensor, columns: Tensor, of_columns: _Lengths, in_rows: _Mix, in_columns: _Mix
) -> Tensor:
    """Return what :class:`_MixedCosines` does, with all mixes written out: slower, but
    differentiable as often as one likes."""
    rows, proxies = (
        torch.cat([vectors, mix.write_vectors(vectors)])
        for vectors, mix in ((embeddings, in_rows), (columns.T, in_columns))
    )
    return normalize(rows, dim=1) @ normalize(proxies, dim=1, eps=of_columns.shortest).T


def _along(gradients: Tensor, units: Tensor) -> Tensor:
    """Return how long the part of each gradient along its unit vector is, [N, 1]."""
    return (gradients * units).sum(dim=1, keepdim=True)
