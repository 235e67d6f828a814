"""IAA (Fu et al., TMM 2022): statistics of classes, their correction, and copies, by loops."""

import math

import torch

from pml_synthesis import SyntheticBatch

from .order import in_order, unit

# Those that count batches have something in their memory without an estimate.
EXAMPLES = {
    "running": {"num_copies": 2, "running": True, "num_neighbors": 0},
    "estimated": {"num_copies": 3, "num_neighbors": 2},
    "released roots": {"released_roots": True, "num_neighbors": 0, "strength": 0.6},
}


def synthesize(iaa, embeddings, labels, proxies, generator):
    """Return the synthetic batch, all draws taken from a generator."""
    strength = iaa.strength(iaa.step) if callable(iaa.strength) else iaa.strength
    direction_seed = torch.Generator().manual_seed(0)
    direction = torch.randn(embeddings.shape[1], dtype=torch.float64, generator=direction_seed)
    order = in_order(embeddings, labels, direction)
    order = [row for row in order if iaa.num_seen[labels[row]] > 0 and strength > 0]
    draws = torch.randn(iaa.num_copies, len(order), embeddings.shape[1], generator=generator)
    copies, sources = [embeddings[:0]], []
    for m in range(iaa.num_copies):
        for place, row in enumerate(order):
            variance = variance_of(iaa, labels[row]).to(embeddings)
            deviation = torch.sqrt(strength * variance)
            if iaa.released_roots:
                deviation = math.sqrt(strength) * variance ** (1 / 2 ** (m + 1))
            moved = embeddings[row] + deviation * draws[m, place].to(embeddings)
            copies.append(unit(moved)[None])
            sources.append(row)
    new_proxies = (embeddings if proxies is None else proxies)[:0]
    sources = torch.tensor(sources, dtype=torch.int64)
    return SyntheticBatch(torch.cat(copies), labels[sources], new_proxies, sources)


def variance_of(iaa, label):
    return (iaa.corrected if iaa.num_neighbors else iaa.variance)[label]


def refreshed(old, embeddings, labels, least_weight):
    """Return the statistics after an estimate: {class: (mean, variance, number seen)}."""
    statistics = dict(old)
    for label in sorted(set(labels.tolist())):
        members = embeddings[labels == label].double()
        n = len(members)
        new_mean, new_variance = members.mean(dim=0), members.var(dim=0, unbiased=False)
        if label not in old:
            statistics[label] = new_mean, new_variance, n
            continue
        mean, variance, seen = old[label]
        w = max(n / (seen + n), least_weight)
        drift = w * (1 - w) * (mean - new_mean) ** 2
        statistics[label] = (
            (1 - w) * mean + w * new_mean,
            (1 - w) * variance + w * new_variance + drift,
            seen + n,
        )
    return statistics


def corrected(statistics, counts, num_neighbors):
    """Return the corrected variances: {class: variance}.

    Arguments:
        statistics: {class: (mean, variance, ...)}.
        counts: {class: number of embeddings in the estimate}.
        num_neighbors: K.
    """
    beta, gamma, tau = 0.1, 0.1, 40
    lending = [c for c in counts if counts[c] > 1]
    result = {}
    for c, n in counts.items():
        mean, variance = statistics[c][:2]
        result[c] = variance
        if n > tau or not lending:
            continue

        def distance(i, of=mean):
            return torch.linalg.vector_norm(statistics[i][0] ** 2 - of**2)

        everywhere = sum(counts[i] * statistics[i][1] for i in lending)
        everywhere = everywhere / sum(counts[i] for i in lending)
        neighbors = sorted((i for i in lending if i != c), key=distance)[:num_neighbors]
        mean_of_neighbors = everywhere
        if neighbors:
            weights = []
            for i in neighbors:
                between = torch.linalg.vector_norm(statistics[i][1] - variance)
                weights.append(counts[i] * torch.exp(-(distance(i) ** 2) / 2 - between**2 / 2))
            mean_of_neighbors = sum(
                w * statistics[i][1] for w, i in zip(weights, neighbors, strict=True)
            ) / sum(weights)
        alpha = 1 / (1 + math.log(1 + beta * (n - 1)))
        towards = (1 - gamma) * mean_of_neighbors + gamma * everywhere
        result[c] = (1 - alpha) * variance + alpha * towards
    return result
