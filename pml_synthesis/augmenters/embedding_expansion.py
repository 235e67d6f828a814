"""Embedding Expansion."""

from __future__ import annotations

import torch
from torch import Generator

from .._checks import expect_integer
from ..functional import class_matching_pairs, inner_points
from .base_augmenter import BaseAugmenter
from .real_batch import RealBatch
from .synthetic_batch import SyntheticBatch


class EmbeddingExpansion(BaseAugmenter):
    r"""Interpolates pairs of embeddings of one class, to make negative pairs harder.

    For a pair a, b of one class and N(v) = v / ||v||,

    .. math::
        \tilde x_k = N\!\left( \frac{(n + 1 - k) N(a) + k N(b)}{n + 1} \right), \quad
        k = 1, \dots, n

    divide the chord between the two into equal parts. With G(a) the embedding a and its n points, a
    pair loss compares embeddings of different classes by

    .. math:: D_{ij} = \min_{u \in G(i), \, v \in G(j)} d(u, v)

    (the largest one of similarities), and those of the same class by d itself: the role "negative"
    of a :class:`SyntheticBatch`. So a and b have the same points, which stand in for both. Losses
    that do not compare embeddings by a matrix of distances refuse the role, as the page of losses
    says. To proxy losses the points are embeddings of their class, which is not published.

    The members of a class are matched two by two at random, whatever the order of the batch. The
    last one of an odd number takes a partner that has one already. Classes of a single embedding
    make no points. Gradients reach both embeddings. Nothing is remembered.

    Args:
        num_points: n, the number of points on a chord. 0 makes none.
        seed: see :class:`BaseAugmenter`.
        collect_stats: see :class:`BaseAugmenter`. Records `num_rows`, the number of points.

    Raises:
        ValueError: if `num_points` is no integer of at least 0.

    Source: Ko, Gu, "Embedding Expansion: Augmentation in Embedding Space for Deep Metric
    Learning", CVPR 2020, arXiv 2003.02546, and its released code. There neighbours in the batch are
    paired, whatever their labels. The released loss is TripletMarginLoss with the margin 1e-5, a
    SumReducer and a BatchHardMiner as the `miner` of :class:`~pml_synthesis.SynthesisLoss`.

    Example:
        >>> labels = torch.tensor([0, 0, 1, 1, 2])
        >>> batch = EmbeddingExpansion(num_points=2, seed=0)(torch.randn(5, 16), labels)
        >>> batch.embeddings.shape, batch.role
        (torch.Size([8, 16]), 'negative')
    """

    requires_proxies = False

    def __init__(
        self, num_points: int = 2, *, seed: int | None = None, collect_stats: bool | None = None
    ) -> None:
        super().__init__(seed=seed, collect_stats=collect_stats)
        expect_integer("num_points", num_points, least=0)
        self.num_points = num_points
        self.add_to_recordable_attributes(name="num_rows", is_stat=True)

    def synthesize(self, batch: RealBatch, generator: Generator) -> SyntheticBatch:
        """Divide the chords of all pairs; see :meth:`BaseAugmenter.synthesize`."""
        embeddings = batch.embeddings
        members = torch.randperm(len(batch), generator=generator)
        pairs = class_matching_pairs(batch.host_labels.sort().values, members)
        pairs = batch.canonical_order()[pairs.to(embeddings.device)]

        # Both ends of all chords at once, so that their gradients are added up at once.
        first, second = embeddings[pairs]
        points = inner_points(first, second, self.num_points)
        source = pairs[0].repeat_interleave(self.num_points)
        if self.collect_stats:
            self.num_rows = len(source)
        return SyntheticBatch(
            embeddings=points.flatten(0, 1),
            labels=batch.labels[source],
            proxies=embeddings[:0],
            source=source,
            role="negative",
        )
