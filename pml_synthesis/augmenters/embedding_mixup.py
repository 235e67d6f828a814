"""Embedding Mixup."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .._checks import expect, expect_flag, is_number
from ..functional import class_distinct_pairs, mix_units, row_order
from ..functional.unit_vectors import unit
from .base_augmenter import BaseAugmenter
from .mixing_weight import draw_mixing_weight
from .real_batch import RealBatch
from .synthetic_batch import SyntheticBatch


class EmbeddingMixup(BaseAugmenter):
    r"""Interpolates pairs of embeddings, each mix with a soft label of both classes.

    For pairs (i, j) of embeddings, with one :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)` for
    the batch,

    .. math::
        \tilde x_i = N(\lambda N(x_i) + (1 - \lambda) N(x_j)), \qquad
        \tilde y_i = \lambda e_{y_i} + (1 - \lambda) e_{y_j}

    with :math:`e_c` the one-hot label of class c: embeddings are normalised before they are mixed,
    and mixes afterwards. A mix of two classes comes as two equal synthetic embeddings, one with the
    label of i and the weight :math:`\lambda`, one with the label of j and the weight
    :math:`1 - \lambda`; a mix of one class as one of weight 1. Gradients reach both members. No
    proxies are needed and no classes are made; a batch of one class gives nothing.

    Proxy losses take the soft label exactly. Of pair losses, ContrastiveLoss, MarginLoss and
    TripletMarginLoss take the mixes as candidates: a real anchor meets those of another embedding
    of its class and one of another class, as a positive by the first one's share and as a negative
    by the other's. Other pair losses sum inside of a logarithm and raise an error.

    Args:
        alpha: of the Beta distribution, positive.
        same_class: False for partners of different classes, drawn at random over classes and within
            them, whatever the order of the batch (Metrix; if one class fills more than half of the
            batch there are fewer pairs); True for a random permutation of the batch, in which a
            partner may be of the same class or the embedding itself (Manifold Mixup).
        seed: see :class:`BaseAugmenter`.
        collect_stats: see :class:`BaseAugmenter`. Records `mixing_weight` (lambda) and `num_rows`.

    Raises:
        ValueError: if `alpha` is not positive or `same_class` no bool.

    Source: Venkataramanan, Psomas, Kijak, Amsaleg, Karantzalos, Avrithis, "It Takes Two to Tango:
    Mixup for Deep Metric Learning", ICLR 2022, arXiv 2106.04990 (Metrix, mixing embeddings), with
    the released weight by `SynthesisRegularizer(EmbeddingMixup())` and `embedding_reg_weight=0.4`.
    The released code mixes each positive with each negative of an anchor; here each embedding has
    one partner. With `same_class=True`: Verma et al., "Manifold Mixup: Better Representations by
    Interpolating Hidden States", ICML 2019, arXiv 1806.05236, its mix taken at the embedding,
    beside the real embeddings instead of in their place. There is no state.

    Example:
        >>> batch = EmbeddingMixup(seed=0)(torch.randn(4, 16), torch.tensor([0, 0, 1, 1]))
        >>> batch.embeddings.shape, batch.labels
        (torch.Size([8, 16]), tensor([0, 0, 1, 1, 1, 1, 0, 0]))
        >>> torch.equal(batch.embeddings[:4], batch.embeddings[4:])
        True
        >>> batch.weights[:4] + batch.weights[4:]
        tensor([1., 1., 1., 1.])
    """

    requires_proxies = False
    published_weight = 0.4

    def __init__(
        self,
        alpha: float = 2.0,
        same_class: bool = False,
        *,
        seed: int | None = None,
        collect_stats: bool | None = None,
    ) -> None:
        super().__init__(seed=seed, collect_stats=collect_stats)
        expect(is_number(alpha) and alpha > 0, "alpha", "a positive number", alpha)
        expect_flag("same_class", same_class)
        self.alpha = alpha
        self.same_class = same_class
        self.add_to_recordable_attributes(list_of_names=["mixing_weight", "num_rows"], is_stat=True)

    def synthesize(self, batch: RealBatch, generator: Generator) -> SyntheticBatch:
        """Mix embeddings; see :meth:`BaseAugmenter.synthesize`."""
        embeddings, labels = batch.embeddings, batch.labels
        weight = draw_mixing_weight(self.alpha, batch.dtype, generator)
        direction = torch.randn(embeddings.shape[1], dtype=torch.float64, generator=generator)
        class_index = torch.unique_consecutive(
            batch.host_labels.sort().values, return_inverse=True
        )[1]
        if len(class_index) == 0 or class_index[-1] == 0:
            return SyntheticBatch.empty(embeddings, batch.proxies)
        pairs = self._draw_pairs(class_index, generator)

        # How many mixes are of two classes is known on the host; which, where the embeddings are.
        of_two = (class_index[pairs[0]] != class_index[pairs[1]]).nonzero().squeeze(1)
        of_two = of_two.to(embeddings.device)
        order = row_order(embeddings, labels, direction)
        first, second = order[pairs.to(embeddings.device)]
        same = labels[first] == labels[second]

        units = unit(embeddings)
        mixed, _ = mix_units(units.index_select(0, first), units.index_select(0, second), weight)
        source = torch.cat([first, second[of_two]])
        shares = mixed.new_full(first.shape, weight).masked_fill(same, 1.0)
        if self.collect_stats:
            self.mixing_weight = weight
            self.num_rows = len(source)
        return SyntheticBatch(
            embeddings=torch.cat([mixed, mixed[of_two]]),
            labels=labels[source],
            proxies=embeddings[:0],
            source=source,
            weights=torch.cat([shares, mixed.new_full(of_two.shape, 1 - weight)]),
            role="candidate",
            partner=torch.cat([second.masked_fill(same, -1), first[of_two]]),
        )

    def _draw_pairs(self, class_index: Tensor, generator: Generator) -> Tensor:
        """Draw pairs, as positions in the sorted batch, [2, P].

        `class_index` counts the classes of the batch, in ascending order: that of each embedding.
        """
        batch_size = len(class_index)
        if self.same_class:
            partners = torch.randperm(batch_size, generator=generator)
            return torch.stack([torch.arange(batch_size), partners])
        class_places = torch.randperm(int(class_index[-1]) + 1, generator=generator)
        member_order = torch.randperm(batch_size, generator=generator)
        return class_distinct_pairs(class_index, class_places, member_order)
