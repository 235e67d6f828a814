"""Symmetrical Synthesis."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator

from .._checks import expect
from ..functional import class_sharing_pairs, reflect, row_order
from .base_augmenter import BaseAugmenter
from .real_batch import RealBatch
from .synthetic_batch import SyntheticBatch


class SymmetricalSynthesis(BaseAugmenter):
    r"""Reflects each embedding about another embedding of its class.

    With b an embedding, a the other one and N(v) = v / ||v||,

    .. math:: q = 2 \langle N(a), N(b) \rangle N(a) - N(b)

    is a unit vector as far from a as b is, on the far side, and has the label of both. No new
    classes, and no proxies are needed: it serves pair losses and proxy losses. The other embedding
    is drawn at random, whatever the order of the batch; nothing comes of one that is alone in its
    class. Gradients reach both.

    What becomes of q in a pair loss is up to `role`. With "all" it joins the batch. With "negative"
    it only hardens the negative pairs, which is the second step of the paper: with G(b) = {b, q},
    embeddings of different classes are compared by

    .. math:: D_{ij} = \min_{u \in G(i), \, v \in G(j)} d(u, v)

    (the largest one of similarities), and those of the same class by d itself.

    Args:
        role: "all" or "negative", see above. Proxy losses take both alike.
        seed: see :class:`BaseAugmenter`.
        collect_stats: see :class:`BaseAugmenter`. Records `num_rows`.

    Raises:
        ValueError: if `role` is another one.

    Source: Gu, Ko, "Symmetrical Synthesis for Deep Metric Learning", AAAI 2020, arXiv 2001.11658,
    with alpha = 2 and beta = 1, on unit vectors, and its released code. The published gains are
    those of hardened negatives; "all" is another training signal. With NPairsLoss, "negative"
    covers four of the six products whose largest one is a logit of the release (two of them with
    the classes exchanged), and it leaves the logits of positive pairs as they are.

    Example:
        >>> batch = SymmetricalSynthesis(seed=0)(torch.randn(5, 16), torch.tensor([0, 0, 1, 1, 2]))
        >>> batch.embeddings.shape, batch.labels
        (torch.Size([4, 16]), tensor([0, 0, 1, 1]))
    """

    requires_proxies = False

    def __init__(
        self,
        role: Literal["all", "negative"] = "all",
        *,
        seed: int | None = None,
        collect_stats: bool | None = None,
    ) -> None:
        super().__init__(seed=seed, collect_stats=collect_stats)
        fits = isinstance(role, str) and role in ("all", "negative")
        expect(fits, "role", "'all' or 'negative'", role)
        self.role = role
        self.add_to_recordable_attributes(name="num_rows", is_stat=True)

    def synthesize(self, batch: RealBatch, generator: Generator) -> SyntheticBatch:
        """Reflect all rows that are not alone; see :meth:`BaseAugmenter.synthesize`."""
        embeddings, labels = batch.embeddings, batch.labels
        batch_size, dim = embeddings.shape
        direction = torch.randn(dim, dtype=torch.float64, generator=generator)
        draws = torch.randint(2**62, (batch_size,), generator=generator)
        pairs = class_sharing_pairs(batch.host_labels.sort().values, draws)
        rows = row_order(embeddings, labels, direction)[pairs.to(embeddings.device)]

        # Both rows of all pairs at once, so that their gradients are added up at once.
        reflected, axes = embeddings[rows]
        if self.collect_stats:
            self.num_rows = rows.shape[1]
        return SyntheticBatch(
            embeddings=reflect(reflected, axes),
            labels=labels[rows[0]],
            proxies=embeddings[:0],
            source=rows[0],
            role=self.role,
        )
