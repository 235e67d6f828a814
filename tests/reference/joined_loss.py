"""What the hooks should give: PML's own loss, built with the synthetic classes among its own."""

import torch
from torch.nn.functional import normalize

from .methods import synthesize


def synthetic_parts(case, augmenter, embeddings, labels, proxies):
    """Return (rows, labels, new proxies, sources), with norms where the loss uses norms."""
    batch = synthesize(augmenter, embeddings, labels, proxies)
    rows, new_proxies, source = batch.embeddings, batch.proxies, batch.source
    if case.uses_norms:
        # What has no source in the batch keeps its own norm.
        given = [rows[m] if i < 0 else embeddings[i] for m, i in enumerate(source)]
        norms = torch.stack([torch.linalg.vector_norm(vector) for vector in given])
        if not rows.requires_grad:
            norms = norms.detach()
        rows = normalize(rows, dim=1) * norms[:, None]
        mean = torch.stack([torch.linalg.vector_norm(p) for p in proxies]).mean()
        new_proxies = normalize(new_proxies, dim=-1) * mean
    return rows, batch.labels, new_proxies, source


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


def real_parents(batch, labels):
    """Return the real class behind each synthetic embedding: of its source, or as it is given."""
    sources = enumerate(batch.source.tolist())
    return torch.stack([batch.parent[m] if i < 0 else labels[i] for m, i in sources])
