"""What the hooks should give: PML's own loss, built with the synthetic classes among its own."""

import torch

from pml_synthesis import ProxySynthesis, SphericalEmbeddingExpansion, SymmetricalSynthesis

from .proxy_synthesis import proxy_synthesis
from .spherical_embedding_expansion import spherical_embedding_expansion
from .symmetrical_synthesis import symmetrical_synthesis

# Each from an augmenter with its options, a batch and the draws.
REFERENCES = {
    ProxySynthesis: lambda ps, x, y, p, draws: proxy_synthesis(x, y, p, ps.alpha, ps.mu, draws),
    SphericalEmbeddingExpansion: lambda see, x, y, p, draws: spherical_embedding_expansion(
        x, y, p, see.num_expansions, see.fraction, see.detach, draws
    ),
    SymmetricalSynthesis: lambda _, x, y, p, draws: symmetrical_synthesis(x, y, draws),
}


def synthesize(augmenter, embeddings, labels, proxies):
    """Return (rows, labels, new proxies, sources) of what an augmenter makes in its next step."""
    reference = REFERENCES[type(augmenter)]
    made = reference(augmenter, embeddings, labels, proxies, augmenter._generator())
    # Not all methods make classes.
    rows, row_labels, *new_proxies, source = made
    return rows, row_labels, torch.cat([proxies[:0], *new_proxies]), source


def synthetic_parts(case, augmenter, embeddings, labels, proxies):
    """Return them with norms, where the loss uses norms."""
    rows, row_labels, new_proxies, source = synthesize(augmenter, embeddings, labels, proxies)
    if case.uses_norms:
        norms = torch.stack([torch.linalg.vector_norm(embeddings[i]) for i in source])
        if not rows.requires_grad:
            norms = norms.detach()
        rows = rows * norms[:, None]
        mean = torch.stack([torch.linalg.vector_norm(p) for p in proxies]).mean()
        new_proxies = new_proxies * mean
    return rows, row_labels, new_proxies, source


def joined_loss(case, augmenter, embeddings, labels, proxies, **options):
    """Return the loss of the real and the synthetic batch together."""
    parts = synthetic_parts(case, augmenter, embeddings, labels, proxies)
    rows, row_labels, new_proxies, _ = parts
    loss = case.build_with(torch.cat([proxies, new_proxies]), **options)
    return loss(torch.cat([embeddings, rows]), torch.cat([labels, row_labels]))


def synthetic_loss(case, augmenter, embeddings, labels, proxies, **options):
    """Return the loss of the synthetic batch alone."""
    parts = synthetic_parts(case, augmenter, embeddings, labels, proxies)
    rows, row_labels, new_proxies, _ = parts
    loss = case.build_with(torch.cat([proxies, new_proxies]), **options)
    return loss(rows, row_labels)
