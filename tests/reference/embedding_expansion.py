"""Embedding Expansion (Ko, Gu, CVPR 2020), embedding by embedding."""

import torch

from pml_synthesis import SyntheticBatch

from .order import in_order, unit

EXAMPLES = {"two points": {}, "one point": {"num_points": 1}}


def synthesize(augmenter, embeddings, labels, proxies, generator):
    """Return the synthetic batch, all draws taken from a generator."""
    num_points = augmenter.num_points
    drawn = torch.randperm(len(labels), generator=generator).tolist()
    # The direction that is the same in every process and step.
    fixed = torch.Generator().manual_seed(0)
    direction = torch.randn(embeddings.shape[1], dtype=torch.float64, generator=fixed)
    order = in_order(embeddings, labels, direction)

    points, sources = [embeddings[:0]], []
    for label in sorted(set(labels.tolist())):
        members = [order[place] for place in drawn if labels[order[place]] == label]
        for one, other in partners(members):
            a, b = unit(embeddings[one]), unit(embeddings[other])
            for k in range(1, num_points + 1):
                point = (k * b + (num_points + 1 - k) * a) / (num_points + 1)
                points.append(unit(point)[None])
                sources.append(one)
    new_proxies = (embeddings if proxies is None else proxies)[:0]
    sources = torch.tensor(sources, dtype=torch.int64)
    return SyntheticBatch(torch.cat(points), labels[sources], new_proxies, sources, role="negative")


def partners(members):
    """Return each member with its partner: neighbours two by two, an odd last one with the one
    before it."""
    if len(members) == 1:
        return []
    pairs = []
    for place, member in enumerate(members):
        if place % 2 == 1:
            pairs.append((member, members[place - 1]))
        elif place + 1 < len(members):
            pairs.append((member, members[place + 1]))
        else:
            pairs.append((member, members[place - 1]))
    return pairs
