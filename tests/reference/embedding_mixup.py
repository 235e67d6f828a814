"""Mixup of embeddings (Metrix, ICLR 2022, and Manifold Mixup, ICML 2019), pair by pair."""

import torch

from pml_synthesis import SyntheticBatch

from .order import in_order, unit
from .proxy_synthesis import draw_beta, pairing

EXAMPLES = {"of two classes": {}, "of any class": {"same_class": True}}


def synthesize(mixup, embeddings, labels, proxies, generator):
    """Return the synthetic batch, all draws taken from a generator."""
    lambda_ = draw_beta(mixup.alpha, generator)
    direction = torch.randn(embeddings.shape[1], dtype=torch.float64, generator=generator)
    order = in_order(embeddings, labels, direction)
    new_proxies = (embeddings if proxies is None else proxies)[:0]
    if len(set(labels.tolist())) < 2:
        return SyntheticBatch.empty(embeddings, new_proxies)
    if mixup.same_class:
        partners = torch.randperm(len(order), generator=generator).tolist()
        pairs = [(i, order[j]) for i, j in zip(order, partners, strict=True)]
    else:
        pairs = pairing(order, labels, generator)

    made = soft_rows(embeddings, labels, pairs, lambda_)
    rows, sources, weights, partners = (list(values) for values in made)
    return SyntheticBatch(
        torch.stack(rows),
        labels[sources],
        new_proxies,
        torch.tensor(sources),
        weights=torch.tensor(weights, dtype=torch.float64),
        role="candidate",
        partner=torch.tensor(partners),
    )


def soft_rows(embeddings, labels, pairs, lambda_):
    """Return rows, sources, weights and partners: all mixes, and those of two classes again."""
    first, second = [], []
    for i, j in pairs:
        z = unit(lambda_ * unit(embeddings[i]) + (1 - lambda_) * unit(embeddings[j]))
        if labels[i] == labels[j]:
            first.append((z, i, 1.0, -1))
        else:
            first.append((z, i, lambda_, j))
            second.append((z, j, 1 - lambda_, i))
    return zip(*first, *second, strict=True)
