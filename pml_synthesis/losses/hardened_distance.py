"""Distances between classes that are hardened by synthetic embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from .numbered_embeddings import NumberedEmbeddings


class HardenedDistance(Module):
    r"""A distance whose entries between classes are the smallest ones between groups of embeddings.

    .. math:: D_{ij} = \min_{u \in G(i), \, v \in G(j)} d(u, v) \quad\text{where } y_i \ne y_j

    with G(i) the real embedding i and the synthetic ones whose source it is; the largest one for
    similarities. Entries within a class stay as they are. Gradients reach the closest pair, equal
    parts of it where several are as close.

    Args:
        distance: d, of the loss.
        embeddings: the real embeddings, [B, D].
        labels: [B].
        synthetic: [M, D].
        source: [M]. One of -1 belongs to no group.
    """

    def __init__(
        self,
        distance: Module,
        embeddings: Tensor,
        labels: Tensor,
        synthetic: Tensor,
        source: Tensor,
    ) -> None:
        super().__init__()
        self.inner = distance
        self.embeddings = embeddings
        self.labels = labels
        self.synthetic = synthetic
        self.source = source

    def __getattr__(self, name: str) -> Any:
        """Look up what losses ask of a distance, such as margin and is_inverted."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._modules["inner"], name)

    def forward(self, query_emb: Tensor, ref_emb: Tensor | None = None) -> Tensor:
        """Return the distances of the loss, those between real embeddings hardened.

        Args:
            query_emb: numbered ones, [N, D].
            ref_emb: numbered ones, [R, D], or None for the same as `query_emb`.

        Returns:
            [N, R].

        Raises:
            ValueError: if the loss compares other vectors than the embeddings it was given.
        """
        ref_emb = query_emb if ref_emb is None else ref_emb
        rows, columns = _numbers(query_emb), _numbers(ref_emb)
        hardest = self._hardest()
        # After the hardest, so that the inner distance records statistics of this one.
        matrix = self.inner(query_emb, ref_emb)
        index = rows.clamp_min(0).unsqueeze(1), columns.clamp_min(0)
        between = (self.labels.unsqueeze(1) != self.labels)[index]
        real = (rows >= 0).unsqueeze(1) & (columns >= 0)
        return torch.where(real & between, hardest[index].to(matrix), matrix)

    def pairwise_distance(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """Refuse: an angle at the centre of two embeddings has no hardened form.

        Raises:
            ValueError: always. AngularMiner is what asks for it.
        """
        raise ValueError(
            "Expected argument `miner` to be one that compares embeddings with one another, for "
            "the role 'negative', but got one that compares them with other points, as "
            "AngularMiner does. Use another miner, such as MultiSimilarityMiner."
        )

    def _hardest(self) -> Tensor:
        """Return the smallest distance between each two groups, [B, B]."""
        size, device = len(self.embeddings), self.source.device
        points = torch.cat([self.embeddings, self.synthetic])
        distances = self.inner(points, points)
        # Those without a source are gathered in a further group, which is then left out.
        group = self.source.where(self.source >= 0, size)
        group = torch.cat([torch.arange(size, device=device), group])
        how = "amax" if self.inner.is_inverted else "amin"
        least = distances.new_zeros(size + 1, len(points))
        over_rows = group.unsqueeze(1).expand_as(distances)
        least = least.scatter_reduce(0, over_rows, distances, how, include_self=False)
        over_columns = group.expand_as(least)
        both = least.new_zeros(size + 1, size + 1)
        both = both.scatter_reduce(1, over_columns, least, how, include_self=False)
        return both[:size, :size]


def _numbers(given: Tensor) -> Tensor:
    """Return which real embedding each given one is, or -1, [N]."""
    if isinstance(given, NumberedEmbeddings):
        return given.numbers
    raise ValueError(
        "Expected argument `loss` to be one that compares the embeddings that it is given, for the "
        "role 'negative', but got one that compares other vectors."
    )
