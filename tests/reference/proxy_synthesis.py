"""Proxy Synthesis (Gu, Ko, Kim, AAAI 2021), row by row."""

import math
import random
from fractions import Fraction

import torch

from pml_synthesis import SyntheticBatch

from .order import in_order, unit

EXAMPLES = {"mu 1": {}, "mu 1.5": {"mu": 1.5}}


def synthesize(ps, embeddings, labels, proxies, generator):
    """Return the synthetic batch, all draws taken from a generator."""
    alpha, mu = ps.alpha, ps.mu
    batch_size, dim = embeddings.shape
    lambda_ = draw_beta(alpha, generator)
    direction = torch.randn(dim, dtype=torch.float64, generator=generator)
    order = in_order(embeddings, labels, direction)

    pairs = []
    wanted = math.floor(Fraction(str(mu)) * batch_size)
    for _ in range(math.ceil(mu)):
        found = pairing(order, labels, generator)
        missing = wanted - len(pairs)
        if len(found) > missing:
            kept = torch.randperm(len(found), generator=generator)[:missing]
            found = [found[k] for k in kept]
        pairs += found

    class_pairs = sorted({(int(labels[i]), int(labels[j])) for i, j in pairs})
    rows, new_labels, sources = [], [], []
    for i, j in pairs:
        rows.append(unit(lambda_ * unit(embeddings[i]) + (1 - lambda_) * unit(embeddings[j])))
        new_labels.append(len(proxies) + class_pairs.index((int(labels[i]), int(labels[j]))))
        sources.append(i)
    new_proxies = []
    for a, b in class_pairs:
        centers_a, centers_b = proxies[a].reshape(-1, dim), proxies[b].reshape(-1, dim)
        centers = [
            unit(lambda_ * unit(p) + (1 - lambda_) * unit(q))
            for p, q in zip(centers_a, centers_b, strict=True)
        ]
        new_proxies.append(torch.stack(centers).reshape(proxies.shape[1:]))
    return SyntheticBatch(
        torch.stack(rows),
        torch.tensor(new_labels),
        torch.stack(new_proxies),
        torch.tensor(sources),
    )


def draw_beta(alpha, generator):
    draws = random.Random(int(torch.randint(2**62, (), generator=generator)))
    lambda_ = draws.betavariate(alpha, alpha)
    return lambda_ if draws.random() < 0.5 else 1 - lambda_


def pairing(order, labels, generator):
    """Pair each row with the one (r + 1) c further on, classes and members laid out at random."""
    classes = sorted({int(label) for label in labels})
    places = dict(zip(classes, torch.randperm(len(classes), generator=generator), strict=True))
    shuffled = [order[k] for k in torch.randperm(len(order), generator=generator)]
    layout = sorted(classes, key=places.get)
    members = {c: [row for row in shuffled if int(labels[row]) == c] for c in classes}
    line = [row for c in layout for row in members[c]]
    largest = max(len(rows) for rows in members.values())
    pairs = []
    for position, row in enumerate(line):
        rank = members[int(labels[row])].index(row)
        for shift in ((rank + 1) * largest, largest):
            partner = line[(position + shift) % len(line)]
            if labels[partner] != labels[row]:
                pairs.append((row, partner))
                break
    # The order in which rows come does not matter to a loss, but it does to draws.
    return pairs
