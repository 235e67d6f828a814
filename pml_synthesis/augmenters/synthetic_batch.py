"""What an augmenter makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .._checks import expect, expect_tensor, is_integer_dtype


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
    """Synthetic rows and synthetic classes, to be given to a loss beside the real ones.

    Args:
        embeddings: the synthetic rows, [M, D]. Only their directions count: where a loss uses
            norms, a synthetic row has the norm of its source.
        labels: int64, [M]; y < C is a real class, C + i the i-th new one.
        proxies: the proxies of the E new classes, [E, D], or [E, K, D] where a class has K centres.
            E may be 0.
        source: int64, [M]: the row of the real batch that each synthetic row came from, whose mined
            weight and class weight it inherits.
        row_mixture: how the rows are mixed from real rows, if they are; saves time in the loss.
        class_mixture: how the new proxies are mixed from real ones, if they are; likewise.

    Raises:
        ValueError: if lengths or widths do not fit together, or labels or sources are no
            integers.

    Example:
        >>> batch = SyntheticBatch.empty(torch.zeros(4, 8))
        >>> len(batch), batch.num_new_classes
        (0, 0)
    """

    embeddings: Tensor
    labels: Tensor
    proxies: Tensor
    source: Tensor
    row_mixture: Mixture | None = None
    class_mixture: Mixture | None = None

    def __post_init__(self) -> None:
        for name in ("embeddings", "labels", "proxies", "source"):
            expect_tensor(name, getattr(self, name))
        expect(
            self.embeddings.ndim == 2, "embeddings", "of shape [M, D]", tuple(self.embeddings.shape)
        )
        rows, width = self.embeddings.shape
        for name in ("labels", "source"):
            indices = getattr(self, name)
            expect(is_integer_dtype(indices.dtype), name, "integers", indices.dtype)
            shape = tuple(indices.shape)
            expect(shape == (rows,), name, f"of shape [{rows}], one for each row", shape)
        shape = tuple(self.proxies.shape)
        fits = len(shape) in (2, 3) and shape[-1] == width
        expect(fits, "proxies", f"of shape [E, {width}] or [E, K, {width}]", shape)

    def __len__(self) -> int:
        """Return M, the number of synthetic rows."""
        return len(self.embeddings)

    @property
    def num_new_classes(self) -> int:
        """E, the number of synthetic classes."""
        return len(self.proxies)

    def to(self, dtype: torch.dtype) -> SyntheticBatch:
        """Return the batch with rows and proxies in another dtype."""
        if self.embeddings.dtype == self.proxies.dtype == dtype:
            return self
        return replace(self, embeddings=self.embeddings.to(dtype), proxies=self.proxies.to(dtype))

    @classmethod
    def empty(cls, embeddings: Tensor, proxies: Tensor | None = None) -> SyntheticBatch:
        """Return a batch of no rows and no classes, beside real embeddings [B, D] and proxies."""
        none = torch.empty(0, dtype=torch.int64, device=embeddings.device)
        no_proxies = (embeddings if proxies is None else proxies)[:0]
        return cls(embeddings[:0], none, no_proxies, none)

    @classmethod
    def concatenate(cls, batches: Sequence[SyntheticBatch], num_classes: int) -> SyntheticBatch:
        """Return several batches as one, their new classes counted one after another.

        Args:
            batches: at least one, all made from the same real batch.
            num_classes: C, the number of real classes.

        Example:
            >>> rows, row = torch.eye(2), torch.tensor([0])
            >>> new = SyntheticBatch(rows[:1], torch.tensor([5]), rows[1:], source=row)
            >>> SyntheticBatch.concatenate([new, new], num_classes=5).labels
            tensor([5, 6])
        """
        # A batch without new classes need not know the form of proxies.
        proxies = [batch.proxies for batch in batches if batch.num_new_classes]
        labels, counted = [], 0
        for batch in batches:
            labels.append(batch.labels + counted * (batch.labels >= num_classes))
            counted += batch.num_new_classes
        return cls(
            torch.cat([batch.embeddings for batch in batches]),
            torch.cat(labels),
            torch.cat(proxies) if proxies else batches[0].proxies,
            torch.cat([batch.source for batch in batches]),
        )
