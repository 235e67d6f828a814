"""What an augmenter makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from .._checks import expect, expect_between, expect_tensor, is_integer_dtype

#: What synthetic embeddings are to a pair loss; see SyntheticBatch.
Role = Literal["all", "candidate", "negative"]
ROLES: tuple[Role, ...] = ("all", "candidate", "negative")


@dataclass(frozen=True, eq=False)
class Mixture:
    r"""Says that unit vectors are mixes of two real ones each.

    .. math:: \tilde v_n = (\lambda u_{i_n} + (1 - \lambda) u_{j_n}) / c_n, \quad u_g = N(v_{m_g})

    A loss can then mix the cosines of the real ones, which is faster than to compute new ones.

    Args:
        members: m, int64, [G], each once: the real vectors that take part.
        pairs: i and j, int64, [2, N], which count among the members.
        weight: lambda, in [0, 1].
        units: u, [G, D], or [G, K, D] for classes of K centres, which are mixed centre by centre.
        norms: c, [N], or [N, K].
    """

    members: Tensor
    pairs: Tensor
    weight: float
    units: Tensor
    norms: Tensor


@dataclass(frozen=True, eq=False)
class SyntheticBatch:
    """Synthetic embeddings and synthetic classes, to be given to a loss beside the real ones.

    Args:
        embeddings: the synthetic embeddings, [M, D]. Where a loss uses norms, one that has a source
            is given the norm of its source, unless `keeps_norms`.
        labels: int64, [M]; y < C is a real class, C + i the i-th new one.
        proxies: the proxies of the E new classes, [E, D], or [E, K, D] where a class has K centres.
            E may be 0.
        source: int64, [M]: the index of the real embedding that each one was made from, whose mined
            weight, norm and class weight it inherits; -1 where there is none in this batch, as for
            remembered or generated embeddings, which have a mined weight of 1.
        parent: int64, [M]: the real class whose class weight each one takes. Default, also where
            it is -1: the class of the source, or without one the own label.
        weights: how much each one counts, at least 0, [M]; default 1. Two equal embeddings with the
            weights w and 1 - w are one embedding with a soft label.
        term: a scalar that is added to the loss, or None.
        role: what they are to a pair loss: "all" (anchors, positives and negatives), "candidate"
            (positives and negatives of real anchors alone) or "negative" (none of these: the
            distance of two real embeddings of different classes becomes the smallest one between
            their groups, each a real embedding and those whose `source` it is). Proxy losses take
            all alike.
        counted: whether they count in the divisor of a mean over embeddings. If not, the loss of a
            :class:`~pml_synthesis.SynthesisLoss` is multiplied by the number of all embeddings (the
            sum of their weights) over that of the counted ones, unless its reducer sums: the real
            embeddings keep the share that they have without these. For proxy losses.
        keeps_norms: whether they keep their own norms where a loss uses norms.
        partner: int64, [M]: for a candidate that is mixed from two real embeddings of different
            classes, the one that is not its source; -1 for others, the default. A pair loss
            compares it with embeddings of these two classes alone, and not with the two themselves.
        row_mixture: how the embeddings are mixed from real ones, if they are; saves time in the
            loss.
        class_mixture: how the new proxies are mixed from real ones, if they are; likewise.

    Raises:
        ValueError: if lengths or widths do not fit together, labels or indices are no integers, or
            the role is unknown.

    Example:
        >>> batch = SyntheticBatch.empty(torch.zeros(4, 8))
        >>> len(batch), batch.num_new_classes
        (0, 0)
    """

    embeddings: Tensor
    labels: Tensor
    proxies: Tensor
    source: Tensor
    parent: Tensor | None = None
    weights: Tensor | None = None
    term: Tensor | None = None
    role: Role = "all"
    counted: bool = True
    keeps_norms: bool = False
    partner: Tensor | None = None
    row_mixture: Mixture | None = None
    class_mixture: Mixture | None = None
    _parts: tuple[SyntheticBatch, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for name in ("embeddings", "labels", "proxies", "source"):
            expect_tensor(name, getattr(self, name))
        expect(
            self.embeddings.ndim == 2, "embeddings", "of shape [M, D]", tuple(self.embeddings.shape)
        )
        rows, width = self.embeddings.shape
        for name in ("labels", "source", "parent", "weights", "partner"):
            values = getattr(self, name)
            if values is None:
                continue
            expect_tensor(name, values)
            if name == "weights":
                expect(values.is_floating_point(), name, "floating point", values.dtype)
            else:
                expect(is_integer_dtype(values.dtype), name, "integers", values.dtype)
            shape = tuple(values.shape)
            expect(shape == (rows,), name, f"of shape [{rows}], one for each embedding", shape)
        shape = tuple(self.proxies.shape)
        fits = len(shape) in (2, 3) and shape[-1] == width
        expect(fits, "proxies", f"of shape [E, {width}] or [E, K, {width}]", shape)
        if self.term is not None:
            expect_tensor("term", self.term)
            expect(self.term.numel() == 1, "term", "a scalar", tuple(self.term.shape))
        expect(self.role in ROLES, "role", f"one of {', '.join(map(repr, ROLES))}", self.role)

    def __len__(self) -> int:
        """Return M, the number of synthetic embeddings."""
        return len(self.embeddings)

    @property
    def num_new_classes(self) -> int:
        """E, the number of synthetic classes."""
        return len(self.proxies)

    @property
    def parts(self) -> tuple[SyntheticBatch, ...]:
        """The batches that this one was put together from, or itself."""
        return self._parts or (self,)

    @property
    def norm_source(self) -> Tensor:
        """The real embedding whose norm each one is given where a loss uses norms, [M]; -1 where it
        keeps its own."""
        return torch.cat(
            [
                torch.full_like(part.source, -1) if part.keeps_norms else part.source
                for part in self.parts
            ]
        )

    def of_role(self, role: Role) -> SyntheticBatch | None:
        """Return the parts of a role that have embeddings as one batch, or None."""
        parts = [part for part in self.parts if part.role == role and len(part)]
        return SyntheticBatch._join(parts) if parts else None

    def divisor_ratio(self, batch_size: int) -> Tensor | float:
        """Return the number of all embeddings over that of the counted ones, those of the real
        batch among both; an embedding with a weight counts as much as that.

        Args:
            batch_size: B.
        """
        numbers = [len(part) if part.weights is None else part.weights.sum() for part in self.parts]
        counted = [number for number, part in zip(numbers, self.parts, strict=True) if part.counted]
        # At least one, so that an empty batch divides by no zero.
        return (batch_size + sum(numbers)) / (max(batch_size, 1) + sum(counted))

    def parent_labels(self, labels: Tensor, num_classes: int | None = None) -> Tensor:
        """Return the real class that each embedding takes its class weight from, [M].

        Args:
            labels: of the real batch, [B].
            num_classes: C, or None for a loss without proxies.
        """
        # Where there is no source, the index -1 finds the label that stands behind the real ones.
        inherited = torch.cat([labels, labels.new_zeros(1)])[self.source]
        own = self.labels if num_classes is None else self.labels.clamp_max(num_classes - 1)
        default = torch.where(self.source >= 0, inherited, own)
        if self.parent is None:
            return default
        return torch.where(self.parent >= 0, self.parent, default)

    def check_indices(self, batch_size: int, num_classes: int | None) -> None:
        """Check labels, sources and parents against the real batch, on the CPU alone.

        Args:
            batch_size: B.
            num_classes: C, or None for a loss without proxies, whose labels may be any.

        Raises:
            ValueError: if one is out of range, or a new class has neither source nor parent.
        """
        expect_between("source", self.source, -1, batch_size)
        if self.partner is not None:
            expect_between("partner", self.partner, -1, batch_size)
        if num_classes is None:
            return
        expect_between("labels", self.labels, 0, num_classes + self.num_new_classes)
        if self.parent is not None:
            expect_between("parent", self.parent, -1, num_classes)
        if self.labels.device.type == "cpu" and (orphans := self.source < 0).any():
            orphans &= self.labels >= num_classes
            if self.parent is not None:
                orphans &= self.parent < 0
            expected = "given for embeddings of new classes without a source"
            expect(not orphans.any(), "parent", expected, self.parent)

    def to(self, dtype: torch.dtype) -> SyntheticBatch:
        """Return the batch with embeddings and proxies in another dtype."""
        if self.embeddings.dtype == self.proxies.dtype == dtype:
            return self
        parts = tuple(part.to(dtype) for part in self._parts)
        embeddings, proxies = self.embeddings.to(dtype), self.proxies.to(dtype)
        return replace(self, embeddings=embeddings, proxies=proxies, _parts=parts)

    @classmethod
    def empty(cls, embeddings: Tensor, proxies: Tensor | None = None) -> SyntheticBatch:
        """Return a batch of no embeddings and no classes, beside real embeddings [B, D] and
        proxies."""
        none = torch.empty(0, dtype=torch.int64, device=embeddings.device)
        no_proxies = (embeddings if proxies is None else proxies)[:0]
        return cls(embeddings[:0], none, no_proxies, none)

    @classmethod
    def concatenate(cls, batches: Sequence[SyntheticBatch], num_classes: int) -> SyntheticBatch:
        """Return several batches as one, their new classes counted one after another.

        Those that are mixed from real embeddings come last.

        Args:
            batches: at least one, all made from the same real batch.
            num_classes: C, the number of real classes.

        Example:
            >>> rows, row = torch.eye(2), torch.tensor([0])
            >>> new = SyntheticBatch(rows[:1], torch.tensor([5]), rows[1:], source=row)
            >>> SyntheticBatch.concatenate([new, new], num_classes=5).labels
            tensor([5, 6])
        """
        # The fast path of the joined loss asks for this order.
        batches = sorted(batches, key=lambda batch: batch.row_mixture is not None)
        shifted, counted = [], 0
        for batch in batches:
            for part in batch.parts:
                labels = part.labels + counted * (part.labels >= num_classes)
                shifted.append(replace(part, labels=labels) if counted else part)
            counted += batch.num_new_classes
        return cls._join(shifted)

    @classmethod
    def _join(cls, parts: Sequence[SyntheticBatch]) -> SyntheticBatch:
        """Put parts together whose new classes are counted one after another."""
        if len(parts) == 1:
            return parts[0]
        # A part without new classes need not know the form of proxies.
        proxies = [part.proxies for part in parts if part.num_new_classes]
        terms = [part.term.reshape(()) for part in parts if part.term is not None]
        return cls(
            embeddings=torch.cat([part.embeddings for part in parts]),
            labels=torch.cat([part.labels for part in parts]),
            proxies=torch.cat(proxies) if proxies else parts[0].proxies,
            source=torch.cat([part.source for part in parts]),
            parent=_joined_indices(parts, "parent"),
            partner=_joined_indices(parts, "partner"),
            weights=_joined_weights(parts),
            term=torch.stack(terms).sum() if terms else None,
            row_mixture=parts[-1].row_mixture,
            class_mixture=parts[-1].class_mixture,
            _parts=tuple(parts),
        )


def _joined_indices(parts: Sequence[SyntheticBatch], name: str) -> Tensor | None:
    """Return such indices of all parts, -1 where a part has none, or None where none has any."""
    given = [getattr(part, name) for part in parts]
    if all(indices is None for indices in given):
        return None
    return torch.cat(
        [
            torch.full_like(part.labels, -1) if indices is None else indices
            for part, indices in zip(parts, given, strict=True)
        ]
    )


def _joined_weights(parts: Sequence[SyntheticBatch]) -> Tensor | None:
    """Return the weights of all parts, or None where all are 1."""
    if all(part.weights is None for part in parts):
        return None
    return torch.cat(
        [
            torch.ones_like(part.embeddings[:, 0]) if part.weights is None else part.weights
            for part in parts
        ]
    )
