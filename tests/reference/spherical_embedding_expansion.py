"""SEE (Le, Woo, PAKDD 2024), row by row, with each reflection written out as a matrix."""

import torch

from pml_synthesis import SyntheticBatch

from .order import in_order, unit
from .simplex import simplex

EXAMPLES = {
    "detached": {"num_expansions": 3, "fraction": 0.5},
    "with gradient": {"num_expansions": 3, "fraction": 1.0, "detach": False},
}


def synthesize(see, embeddings, labels, proxies, generator):
    """Return the synthetic batch, all draws taken from a generator."""
    num_expansions, fraction, detach = see.num_expansions, see.fraction, see.detach
    batch_size, dim = embeddings.shape
    direction = torch.randn(dim, dtype=torch.float64, generator=generator)
    gaussian = torch.randn(dim - 2, num_expansions - 1, dtype=torch.float64, generator=generator)
    frame = gram_schmidt(gaussian.T)
    num_expanded = round(fraction * batch_size)
    signs = draw_signs(num_expanded, dim, generator)

    order = in_order(embeddings, labels, direction)
    proxy = {row: nearest(embeddings[row], proxies[labels[row]]) for row in order}
    cosine = {row: (unit(embeddings[row]) @ unit(proxy[row])).item() for row in order}
    best = sorted(order, key=lambda row: -cosine[row])[:num_expanded]
    expanded = [row for row in order if row in best]

    rows, sources = [], []
    for row, sign in zip(expanded, signs, strict=True):
        z, w = embeddings[row], proxy[row]
        if detach:
            z, w = z.detach(), w.detach()
        rows += expand(z, w, frame, sign)
        sources += [row] * num_expansions
    return SyntheticBatch(torch.stack(rows), labels[sources], proxies[:0], torch.tensor(sources))


def expand(embedding, proxy, frame, sign):
    """Return the K synthetic embeddings of one embedding."""
    z, w = unit(embedding), unit(proxy)
    center = (z @ w) * w
    residual = z - center
    radius = torch.linalg.vector_norm(residual)
    directions = [residual / radius, *complete(w, residual / radius, frame, sign)]
    vertices = simplex(len(frame) + 1)
    return [
        center + radius * sum(a * u for a, u in zip(vertex, directions, strict=True))
        for vertex in vertices[1:]
    ]


def complete(w, u, frame, sign):
    """Return what a frame beside the first two axes becomes when these become w and u."""
    e_0, e_1 = torch.eye(len(w), dtype=w.dtype)[:2]
    first = carrying(e_0, w)
    second = carrying(first @ e_1, u)
    beside = [torch.cat([torch.zeros_like(w[:2]), vector.to(w)]) for vector in frame]
    return [second @ first @ (sign.to(w) * vector) for vector in beside]


def draw_signs(rows, dim, generator):
    """Return +1 for each bit of 0 and -1 for each of 1, of bytes drawn one by one."""
    signs = []
    while len(signs) < rows * dim:
        (byte,) = torch.randint(256, (1,), dtype=torch.int32, generator=generator).tolist()
        signs += [1 - 2 * (byte >> bit & 1) for bit in range(8)]
    return torch.tensor(signs[: rows * dim]).view(rows, dim)


def carrying(a, b):
    """Return the reflection that carries the unit vector a to b or to -b, whichever is further."""
    mirror = a + b if a @ b >= 0 else a - b
    return torch.eye(len(a), dtype=a.dtype) - 2 * torch.outer(mirror, mirror) / (mirror @ mirror)


def gram_schmidt(vectors):
    basis = []
    for vector in vectors:
        for _ in range(2):
            for known in basis:
                vector = vector - (vector @ known) * known
        basis.append(unit(vector))
    return basis


def nearest(embedding, centers):
    """Return the centre with the largest cosine, where there are several."""
    if centers.ndim == 1:
        return centers
    return max(centers, key=lambda center: (unit(embedding) @ unit(center)).item())
