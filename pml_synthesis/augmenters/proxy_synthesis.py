"""Proxy Synthesis."""

from __future__ import annotations

import math
import random
from typing import Any

import torch
from torch import Generator, Tensor

from .._checks import expect, is_number
from ..functional import class_distinct_pairs, interpolate_with_norms, row_order
from .base_augmenter import BaseAugmenter
from .synthetic_batch import Mixture, SyntheticBatch


class ProxySynthesis(BaseAugmenter):
    r"""Mixes pairs of rows of different classes to rows of new classes, and their proxies alike.

    For pairs (i, j) of rows with different labels, with one :math:`\lambda \sim
    \mathrm{Beta}(\alpha, \alpha)` for the batch,

    .. math::
        \tilde x_i = N(\lambda N(x_i) + (1 - \lambda) N(x_j)), \qquad
        \tilde p = N(\lambda N(p_{y_i}) + (1 - \lambda) N(p_{y_j}))

    Each ordered pair of classes is one new class with one proxy, however many rows it has. Classes
    of several centres are mixed centre by centre. Gradients reach embeddings and proxies. Rows are
    paired at random over classes, whatever the order of the batch; where one class fills more than
    half of it there are fewer pairs, and none where there is but one class.

    Args:
        alpha: of the Beta distribution, positive. The smaller, the closer the new classes lie to
            one of the two.
        mu: the number of synthetic rows is the integer part of mu B, at most. Above 1, rows are
            paired again with fresh partners; below, a random part of the pairs is kept.
        seed: see :class:`BaseAugmenter`.
        collect_stats: see :class:`BaseAugmenter`. Records `mixing_weight` (lambda), `num_rows` and
            `num_classes`.

    Raises:
        ValueError: if `alpha` is not positive or `mu` is negative.

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
        expect(is_number(mu) and mu >= 0, "mu", "a number of at least 0", mu)
        self.alpha = alpha
        self.mu = mu
        self.add_to_recordable_attributes(
            list_of_names=["mixing_weight", "num_rows", "num_classes"], is_stat=True
        )

    def synthesize(
        self,
        embeddings: Tensor,
        labels: Tensor,
        proxies: Tensor | None,
        host_labels: Tensor,
        generator: Generator,
    ) -> SyntheticBatch:
        """Mix rows and proxies; see :meth:`BaseAugmenter.synthesize`."""
        assert proxies is not None
        num_classes, device = len(proxies), embeddings.device
        weight = _draw_beta(self.alpha, generator)
        direction = torch.randn(embeddings.shape[1], dtype=torch.float64, generator=generator)
        sorted_labels = host_labels.sort().values
        pairs = self._draw_pairs(sorted_labels, generator)

        # Which classes meet is known on the host; which of their rows, where the embeddings are.
        class_pairs = sorted_labels[pairs]
        codes, new_class = torch.unique(
            class_pairs[0] * num_classes + class_pairs[1], return_inverse=True
        )
        classes = torch.stack([codes // num_classes, codes % num_classes]).to(device)
        rows = row_order(embeddings, labels, direction)[pairs.to(device)]

        # Both ends of all pairs at once, so that their gradients are added up at once.
        x, other_x = embeddings[rows]
        p, other_p = proxies[classes]
        new_rows, row_norms = interpolate_with_norms(x, other_x, weight)
        new_proxies, class_norms = interpolate_with_norms(p, other_p, weight)
        if self.collect_stats:
            self.mixing_weight = weight
            self.num_rows = len(new_rows)
            self.num_classes = len(new_proxies)
        return SyntheticBatch(
            embeddings=new_rows,
            labels=num_classes + new_class.to(device),
            proxies=new_proxies,
            source=rows[0],
            row_mixture=Mixture(rows[0], rows[1], weight, row_norms),
            class_mixture=Mixture(classes[0], classes[1], weight, class_norms),
        )

    def _draw_pairs(self, sorted_labels: Tensor, generator: Generator) -> Tensor:
        """Draw int(mu B) pairs, or as many as there are: positions in the sorted labels, [2, M]."""
        num_present = len(torch.unique_consecutive(sorted_labels))
        # 0.29 * 100 is 28.999999999999996.
        missing = int(self.mu * len(sorted_labels) + 1e-9)
        chosen = []
        for _ in range(math.ceil(self.mu)):
            class_order = torch.randperm(num_present, generator=generator)
            pairs = class_distinct_pairs(sorted_labels, class_order)
            if pairs.shape[1] > missing:
                kept = torch.randperm(pairs.shape[1], generator=generator)[:missing]
                pairs = pairs[:, kept]
            missing -= pairs.shape[1]
            chosen.append(pairs)
        return torch.cat([torch.empty(2, 0, dtype=torch.int64), *chosen], dim=1)

    def options(self) -> dict[str, Any]:
        """Return the options by name, for `repr`."""
        return {"alpha": self.alpha, "mu": self.mu}


def _draw_beta(alpha: float, generator: Generator) -> float:
    """Draw from Beta(alpha, alpha)."""
    draws = random.Random(int(torch.randint(2**62, (), generator=generator)))
    # Above, it is 1/2 to the last digit of float32, and betavariate may search without an end.
    alpha = min(alpha, 1e12)
    weight = draws.betavariate(alpha, alpha)
    # A very small alpha lets both of its gamma variables be 0, of which betavariate makes 0.
    return weight if draws.random() < 0.5 else 1 - weight
