"""Methods in the manner of research code, with Python loops over rows."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pml_synthesis.functional import simplex_vertices


def proxy_synthesis(
    embeddings: Tensor, labels: Tensor, proxies: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Swap equal neighbours apart, pair each row with the one before; rows, labels, proxies."""
    order = torch.randperm(len(labels)).tolist()
    y = labels.tolist()
    for _ in range(50):
        swapped = False
        for t in range(len(order)):
            if y[order[t]] == y[order[t - 1]]:
                other = (t + 7) % len(order)
                order[t], order[other] = order[other], order[t]
                swapped = True
        if not swapped:
            break
    weight = float(torch.distributions.Beta(0.4, 0.4).sample())
    x, p = normalize(embeddings), normalize(proxies)
    rows, classes = [], []
    for t, row in enumerate(order):
        partner = order[t - 1]
        rows.append(normalize(weight * x[row] + (1 - weight) * x[partner], dim=0))
        classes.append(normalize(weight * p[y[row]] + (1 - weight) * p[y[partner]], dim=0))
    new_labels = len(proxies) + torch.arange(len(order), device=labels.device)
    return torch.stack(rows), new_labels, torch.stack(classes)


def spherical_embedding_expansion(
    embeddings: Tensor, labels: Tensor, proxies: Tensor, num_expansions: int
) -> Tensor:
    """Expand each row with directions of its own, by sequential Gram-Schmidt; [B K, D]."""
    vertices = simplex_vertices(num_expansions).to(embeddings)
    points = []
    for row, label in zip(embeddings, labels, strict=True):
        z, w = normalize(row, dim=0), normalize(proxies[label], dim=0)
        center = (z @ w) * w
        residual = z - center
        radius = residual.norm()
        basis = [w, residual / radius]
        while len(basis) <= num_expansions:
            direction = torch.randn_like(z)
            for known in basis:
                direction = direction - (direction @ known) * known
            basis.append(direction / direction.norm())
        for vertex in vertices[1:]:
            point = center
            for share, direction in zip(vertex, basis[1:], strict=True):
                point = point + radius * share * direction
            points.append(point)
    return torch.stack(points)


class MemVir:
    """Keep a list of steps, and go through the rows of those that are recalled."""

    def __init__(self, num_steps: int, step_gap: int) -> None:
        self.num_steps = num_steps
        self.period = step_gap + 1
        self.steps: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(
        self, embeddings: Tensor, labels: Tensor, proxies: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows, labels and proxies of earlier steps, and remember this one."""
        rows, new_labels, classes = [embeddings[:0]], [], [proxies[:0]]
        for k in range(1, self.num_steps + 1):
            if k * self.period > len(self.steps):
                break
            old_rows, old_labels, old_proxies = self.steps[-k * self.period]
            for row, label in zip(old_rows, old_labels.tolist(), strict=True):
                rows.append(row[None])
                new_labels.append(label + k * len(proxies))
            classes += [proxy[None] for proxy in old_proxies]
        self.steps.append((embeddings.detach().clone(), labels, proxies.detach().clone()))
        if len(self.steps) > self.num_steps * self.period:
            self.steps.pop(0)
        return torch.cat(rows), torch.tensor(new_labels, device=labels.device), torch.cat(classes)


def embedding_mixup(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mix each row with a row of another class; rows, labels and weights, twice for two labels."""
    y = labels.tolist()
    weight = float(torch.distributions.Beta(2.0, 2.0).sample())
    x = normalize(embeddings)
    rows, first, second = [], [], []
    for row in range(len(y)):
        others = [other for other in range(len(y)) if y[other] != y[row]]
        partner = others[int(torch.randint(len(others), ()))]
        rows.append(normalize(weight * x[row] + (1 - weight) * x[partner], dim=0))
        first.append(y[row])
        second.append(y[partner])
    shares = torch.tensor([weight] * len(y) + [1 - weight] * len(y), device=x.device)
    soft_labels = torch.tensor(first + second, device=x.device)
    return torch.stack(rows * 2), soft_labels, shares


def embedding_expansion(
    embeddings: Tensor, labels: Tensor, num_points: int
) -> tuple[Tensor, Tensor]:
    """Divide the chords between random neighbours of each class; points, their sources."""
    x = normalize(embeddings)
    points, sources = [], []
    for row, other in _neighbours(labels):
        for k in range(1, num_points + 1):
            share = k / (num_points + 1)
            points.append(normalize((1 - share) * x[row] + share * x[other], dim=0))
            sources.append(row)
    return torch.stack(points), torch.tensor(sources, device=labels.device)


def symmetrical_synthesis(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Reflect each embedding about a random neighbour of its class; reflections, their sources."""
    x = normalize(embeddings)
    rows, sources = [], []
    for row, axis in _neighbours(labels):
        rows.append(2 * (x[row] @ x[axis]) * x[axis] - x[row])
        sources.append(row)
    return torch.stack(rows), torch.tensor(sources, device=labels.device)


def _neighbours(labels: Tensor) -> list[tuple[int, int]]:
    """Match the members of each class two by two, in a random order."""
    members: dict[int, list[int]] = {}
    y = labels.tolist()
    for row in torch.randperm(len(y)).tolist():
        members.setdefault(y[row], []).append(row)
    pairs = []
    for rows in members.values():
        for first, second in zip(rows[::2], rows[1::2], strict=False):
            pairs += [(first, second), (second, first)]
    return pairs


def intraclass_adaptive_augmentation(
    embeddings: Tensor, labels: Tensor, variances: Tensor, num_copies: int
) -> tuple[Tensor, Tensor]:
    """Add noise to each row, with the deviations of its class; rows, labels."""
    rows, new_labels = [], []
    for _ in range(num_copies):
        for row, label in zip(embeddings, labels.tolist(), strict=True):
            deviation = (0.8 * variances[label]).sqrt()
            rows.append(normalize(row + deviation * torch.randn_like(row), dim=0))
            new_labels.append(label)
    return torch.stack(rows), torch.tensor(new_labels, device=labels.device)


def class_variances(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Go through the classes, one mask for each."""
    variances = torch.zeros(num_classes, embeddings.shape[1], device=embeddings.device)
    for label in range(num_classes):
        members = embeddings[labels == label]
        if len(members):
            variances[label] = (members - members.mean(dim=0)).square().mean(dim=0)
    return variances


class DenselyAnchoredSampling:
    """Count channels in lists and keep a list of differences of each class."""

    def __init__(self, num_copies: int = 3, num_channels: int = 4, bank_size: int = 10) -> None:
        self.num_copies = num_copies
        self.num_channels = num_channels
        self.bank_size = bank_size
        self.counts: dict[int, list[int]] = {}
        self.banks: dict[int, list[Tensor]] = {}

    def __call__(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return scaled and shifted copies of the rows, and their labels."""
        y = labels.tolist()
        for row, label in zip(embeddings, y, strict=True):
            counts = self.counts.setdefault(label, [0] * len(row))
            for channel in row.topk(self.num_channels).indices.tolist():
                counts[channel] += 1
        for label in set(y):
            members = embeddings[labels == label]
            new = [a - b for a in members for b in members if (a != b).any()]
            self.banks[label] = (self.banks.get(label, []) + new)[-self.bank_size :]
        copies = []
        for _ in range(self.num_copies):
            for row, label in zip(embeddings, y, strict=True):
                channels = torch.tensor(self.counts[label]).topk(self.num_channels).indices
                copy = row.clone()
                copy[channels] *= 0.99 + 0.02 * torch.rand(self.num_channels)
                if bank := self.banks[label]:
                    copy += 0.01 * bank[int(torch.randint(len(bank), ()))]
                copies.append(normalize(copy, dim=0))
        return torch.stack(copies), labels.repeat(self.num_copies)
