"""SEE, Spherical Embedding Expansion."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from .._checks import expect, expect_integer, is_number
from ..functional import random_frame, random_signs, row_order, spherical_expansion
from ..functional.precision import finest_dtype
from ..schedules import Schedule, known_values
from .base_augmenter import BaseAugmenter
from .real_batch import RealBatch
from .synthetic_batch import SyntheticBatch


class SphericalEmbeddingExpansion(BaseAugmenter):
    r"""Expands each embedding to a regular simplex around the proxy of its class.

    For a unit embedding z with the unit proxy w of its class,

    .. math::
        M = \langle z, w \rangle w, \quad r = z - M, \quad
        \tilde z_k = M + \lVert r \rVert \sum_{j=1}^{K} a_{kj} u_j, \quad k = 1, \dots, K

    with :math:`u_1 = r / \lVert r \rVert`, random :math:`u_2, \dots, u_K` that complete {w, u_1}
    orthonormally, and the vertices :math:`a_0 = e_1, a_1, \dots, a_K` of a regular simplex. Each
    synthetic row has exactly the cosine of its source to the proxy, and its label. No new classes.
    Of a class of several centres, the one nearest to the row is its proxy.

    Args:
        num_expansions: K, the synthetic rows for each expanded one; at least 1 and less than D.
        fraction: the part of the batch that is expanded, the round(fraction B) rows best aligned
            with their proxies: a number in [0, 1], or a schedule from the training step to one,
            such as :class:`~pml_synthesis.schedules.CosineSchedule`.
        detach: whether the synthetic rows are constants, as in the released code, so that they
            train the proxies only; otherwise gradients reach embeddings and proxies through them.
        seed: see :class:`BaseAugmenter`.
        collect_stats: see :class:`BaseAugmenter`. Records `current_fraction`, `num_rows` and
            `mean_cosine` (of the synthetic rows to their proxies).

    Raises:
        ValueError: if `num_expansions` is no integer of at least 1, or a fraction is outside of [0,
            1]; in the call, if `num_expansions` is not below D.

    Source: Le, Woo, "Spherical Embedding Expansion", PAKDD 2024, DOI 10.1007/978-981-97-2253-2_11,
    and its released code.

    Example:
        >>> see = SphericalEmbeddingExpansion(num_expansions=8, fraction=0.5, seed=0)
        >>> batch = see(torch.randn(6, 16), torch.tensor([0, 0, 1, 1, 2, 2]), torch.randn(3, 16))
        >>> batch.embeddings.shape, batch.num_new_classes
        (torch.Size([24, 16]), 0)
    """

    published_weight = 0.2

    def __init__(
        self,
        num_expansions: int = 8,
        fraction: float | Schedule = 0.4,
        detach: bool = True,
        *,
        seed: int | None = None,
        collect_stats: bool | None = None,
    ) -> None:
        super().__init__(seed=seed, collect_stats=collect_stats)
        expect_integer("num_expansions", num_expansions)
        for value in known_values(fraction):
            _expect_fraction(value)
        self.num_expansions = num_expansions
        self.fraction = fraction
        self.detach = detach
        self.add_to_recordable_attributes(
            list_of_names=["current_fraction", "num_rows", "mean_cosine"], is_stat=True
        )

    def synthesize(self, batch: RealBatch, generator: Generator) -> SyntheticBatch:
        """Expand the best aligned rows; see :meth:`BaseAugmenter.synthesize`."""
        embeddings, labels, proxies = batch.embeddings, batch.labels, batch.proxies
        assert proxies is not None
        (batch_size, dim), size = embeddings.shape, self.num_expansions
        expect(size < dim, "num_expansions", f"less than the embedding size, {dim}", size)
        fraction = self.fraction(self.step) if callable(self.fraction) else self.fraction
        _expect_fraction(fraction)
        num_expanded = round(fraction * batch_size)

        direction = torch.randn(dim, dtype=torch.float64, generator=generator)
        frame = random_frame(size - 1, dim - 2, generator)
        signs = random_signs(num_expanded, dim, generator)

        rows = embeddings.detach().to(finest_dtype(embeddings.device))
        centers, cosines = _nearest_centers(rows, labels, proxies)
        order = row_order(rows, labels, direction)
        aligned = cosines[order].argsort(descending=True, stable=True)[:num_expanded]
        expanded = order[aligned.sort().values]

        z, w = embeddings.index_select(0, expanded), centers.index_select(0, expanded)
        if self.detach:
            z, w = z.detach(), w.detach()
        if self.collect_stats:
            self.current_fraction = fraction
            self.num_rows = num_expanded * size
            self.mean_cosine = cosines[expanded].mean().item() if num_expanded else 0.0
        source = expanded.repeat_interleave(size)
        return SyntheticBatch(
            embeddings=spherical_expansion(z, w, frame, signs).flatten(0, 1),
            labels=labels[source],
            proxies=proxies[:0],
            source=source,
        )


def _nearest_centers(rows: Tensor, labels: Tensor, proxies: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest centre of each row's class, [B, D], and its cosine, detached, [B]."""
    centers = proxies.index_select(0, labels)
    if centers.ndim == 2:
        return centers, _cosines(rows, centers.unsqueeze(1)).squeeze(1)
    cosine, nearest = _cosines(rows, centers).max(dim=1)
    return centers[torch.arange(len(rows), device=rows.device), nearest], cosine


@torch.no_grad()
def _cosines(rows: Tensor, centers: Tensor) -> Tensor:
    """Return the cosines of rows, [B, D], to centres of their own, [B, K, D]."""
    centers = centers.to(rows.dtype)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(1e-12)
    norms = norms * torch.linalg.vector_norm(centers, dim=2).clamp_min(1e-12)
    # Divided once: unit vectors in double precision take longer than all the rest.
    return (rows.unsqueeze(1) * centers).sum(dim=2) / norms


def _expect_fraction(value: Any) -> None:
    expected = "a number in [0, 1], or a schedule of such"
    expect(is_number(value) and 0 <= value <= 1, "fraction", expected, value)
