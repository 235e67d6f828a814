"""The synthetic points of Symmetrical Synthesis (Gu, Ko, AAAI 2020), row by row."""

import torch

from pml_synthesis import SyntheticBatch

from .order import in_order, unit

EXAMPLES = {"joined": {}, "negative": {"role": "negative"}}


def synthesize(augmenter, embeddings, labels, proxies, generator):
    """Return the synthetic batch, all draws taken from a generator."""
    batch_size, dim = embeddings.shape
    direction = torch.randn(dim, dtype=torch.float64, generator=generator)
    draws = torch.randint(2**62, (batch_size,), generator=generator).tolist()
    order = in_order(embeddings, labels, direction)
    rows, sources = [embeddings[:0]], []
    for row, draw in zip(order, draws, strict=True):
        members = [other for other in order if labels[other] == labels[row]]
        if len(members) == 1:
            continue
        # Count the others from the one that follows on, round and round.
        start = members.index(row) + 1
        others = [*members[start:], *members[: start - 1]]
        axis = others[draw % len(others)]
        a, b = unit(embeddings[axis]), unit(embeddings[row])
        foot = (a @ b) * a
        rows.append((2 * foot - b)[None])
        sources.append(row)
    new_proxies = (embeddings if proxies is None else proxies)[:0]
    sources = torch.tensor(sources, dtype=torch.int64)
    return SyntheticBatch(
        torch.cat(rows), labels[sources], new_proxies, sources, role=augmenter.role
    )
