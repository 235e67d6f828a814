"""Proxy Synthesis."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from .._checks import expect, is_number
from ..functional import class_distinct_pairs, mix_units, row_order
from ..functional.precision import working_dtype
from ..functional.unit_vectors import unit
from .base_augmenter import BaseAugmenter
from .mixing_weight import draw_mixing_weight
from .real_batch import RealBatch
from .synthetic_batch import Mixture, SyntheticBatch


class ProxySynthesis(BaseAugmenter):
    r"""Interpolates pairs of embeddings of different classes, and their proxies, to new classes.

    For pairs (i, j) of embeddings with different labels, with one :math:`\lambda \sim
    \mathrm{Beta}(\alpha, \alpha)` for the batch,

    .. math::
        \tilde x_i = N(\lambda N(x_i) + (1 - \lambda) N(x_j)), \qquad
        \tilde p = N(\lambda N(p_{y_i}) + (1 - \lambda) N(p_{y_j}))

    Each ordered pair of classes is one new class with one proxy, however many embeddings it has.
    Classes of several centres are mixed centre by centre. Gradients reach embeddings and proxies.

    Embeddings are paired at random over classes and within them, whatever the order of the batch.
    If one class fills more than half of the batch there are fewer pairs, and none in a batch of one
    class. If :math:`\lambda` is 1/2 up to the precision of the embeddings, it is moved by as much,
    so that no two opposite vectors cancel.

    Args:
        alpha: of the Beta distribution, positive. The smaller, the closer the new classes lie to
            one of the two.
        mu: the number of synthetic embeddings is the integer part of mu B, at most. Above 1,
            embeddings are paired again with fresh partners; below, a random part of the pairs is
            kept. At most 1,000: a batch has at most B (B - 1) ordered pairs, so that they repeat
            above mu = B - 1.
        seed: see :class:`BaseAugmenter`.
        collect_stats: see :class:`BaseAugmenter`. Records `mixing_weight` (lambda), `num_rows` and
            `num_classes`.

    Raises:
        ValueError: if `alpha` is not positive or `mu` not between 0 and 1,000.

    Source: Gu, Ko, Kim, "Proxy Synthesis: Learning with Synthetic Classes for Deep Metric
    Learning", AAAI 2021, arXiv 2103.15454.

    Example:
        >>> batch = ProxySynthesis(alpha=0.4, mu=1.0, seed=0)(
        ...     torch.randn(6, 16), torch.tensor([0, 0, 1, 1, 2, 2]), torch.randn(3, 16))
        >>> batch.embeddings.shape, batch.num_new_classes
        (torch.Size([6, 16]), 6)
    """

    def __init__(
        self,
        alpha: float = 0.4,
        mu: float = 1.0,
        *,
        seed: int | None = None,
        collect_stats: bool | None = None,
    ) -> None:
        super().__init__(seed=seed, collect_stats=collect_stats)
        expect(is_number(alpha) and alpha > 0, "alpha", "a positive number", alpha)
        expect(is_number(mu) and 0 <= mu <= 1000, "mu", "a number between 0 and 1,000", mu)
        self.alpha = alpha
        self.mu = mu
        self.add_to_recordable_attributes(
            list_of_names=["mixing_weight", "num_rows", "num_classes"], is_stat=True
        )

    def synthesize(self, batch: RealBatch, generator: Generator) -> SyntheticBatch:
        """Mix embeddings and proxies; see :meth:`BaseAugmenter.synthesize`."""
        embeddings, labels, proxies = batch.embeddings, batch.labels, batch.proxies
        assert proxies is not None
        num_classes, device = len(proxies), embeddings.device
        weight = draw_mixing_weight(self.alpha, batch.dtype, generator)
        direction = torch.randn(embeddings.shape[1], dtype=torch.float64, generator=generator)
        present, class_index = torch.unique_consecutive(
            batch.host_labels.sort().values, return_inverse=True
        )
        pairs = self._draw_pairs(class_index, len(present), generator)

        # Which classes meet is known on the host; which of their rows, where the embeddings are.
        first_class, second_class = class_index[pairs]
        pair_id, new_class = torch.unique(
            first_class * len(present) + second_class, return_inverse=True
        )
        class_pairs = torch.stack([pair_id // len(present), pair_id % len(present)])
        to_mix = torch.stack([*pairs, new_class]).to(device)
        pairs, new_class = to_mix[:2], to_mix[2]
        order = row_order(embeddings, labels, direction)

        new_rows, row_mixture = _mix(embeddings, order, pairs, weight)
        new_proxies, class_mixture = _mix(
            proxies, present.to(device), class_pairs.to(device), weight
        )
        if self.collect_stats:
            self.mixing_weight = weight
            self.num_rows = len(new_rows)
            self.num_classes = len(new_proxies)
        return SyntheticBatch(
            embeddings=new_rows,
            labels=num_classes + new_class,
            proxies=new_proxies,
            source=order[pairs[0]],
            row_mixture=row_mixture,
            class_mixture=class_mixture,
        )

    def _draw_pairs(self, class_index: Tensor, num_present: int, generator: Generator) -> Tensor:
        """Draw int(mu B) pairs, or as many as there are: positions in the sorted batch, [2, M].

        `class_index` counts the classes of the batch, in ascending order: that of each embedding.
        """
        batch_size = len(class_index)
        # 0.29 * 100 is 28.999999999999996.
        missing = int(self.mu * batch_size + 1e-9)
        chosen = []
        for _ in range(math.ceil(self.mu)):
            class_places = torch.randperm(num_present, generator=generator)
            member_order = torch.randperm(batch_size, generator=generator)
            pairs = class_distinct_pairs(class_index, class_places, member_order)
            if pairs.shape[1] > missing:
                kept = torch.randperm(pairs.shape[1], generator=generator)[:missing]
                pairs = pairs[:, kept]
            missing -= pairs.shape[1]
            chosen.append(pairs)
        return torch.cat([torch.empty(2, 0, dtype=torch.int64), *chosen], dim=1)


def _mix(vectors: Tensor, members: Tensor, pairs: Tensor, weight: float) -> tuple[Tensor, Mixture]:
    """Mix pairs of members, [2, N], which are some of the vectors, [G]."""
    units = unit(_select(vectors, members).to(working_dtype(vectors)))
    first, second = (units.index_select(0, ends) for ends in pairs)
    mixed, norms = mix_units(first, second, weight)
    return mixed, Mixture(members, pairs, weight, units, norms)


def _select(vectors: Tensor, members: Tensor) -> Tensor:
    """Return vectors[members], which index_select does several times as fast."""
    if vectors.ndim == 2 and vectors.T.is_contiguous():
        # A transposed weight: in its layout, so that its gradient is in it too.
        return vectors.T.index_select(1, members).T.contiguous()
    return vectors.index_select(0, members)
