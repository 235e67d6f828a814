"""What the hooks should give: PML's own loss, built with the synthetic classes among its own.

Where rows have weights, which PML's losses do not know, the loss is written out.
"""

from dataclasses import replace

import torch
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu
from torch.nn.functional import normalize

from .methods import synthesize
from .soft_labels import mined_weights, soft_label_loss


def synthetic_batch(case, augmenter, embeddings, labels, proxies):
    """Return the synthetic batch, with norms where the loss uses norms."""
    batch = synthesize(augmenter, embeddings, labels, proxies)
    if not case.uses_norms:
        return batch
    rows = batch.embeddings
    # What has no source in the batch keeps its own norm, and what says so.
    own = batch.keeps_norms
    given = [rows[m] if i < 0 or own else embeddings[i] for m, i in enumerate(batch.source)]
    norms = torch.stack([torch.linalg.vector_norm(vector) for vector in given])
    if not rows.requires_grad:
        norms = norms.detach()
    rows = normalize(rows, dim=1) * norms[:, None]
    mean = torch.stack([torch.linalg.vector_norm(p) for p in proxies]).mean()
    return replace(batch, embeddings=rows, proxies=normalize(batch.proxies, dim=-1) * mean)


def synthetic_parts(case, augmenter, embeddings, labels, proxies):
    """Return (rows, labels, new proxies, sources), with norms where the loss uses norms."""
    batch = synthetic_batch(case, augmenter, embeddings, labels, proxies)
    return batch.embeddings, batch.labels, batch.proxies, batch.source


def joined_loss(case, augmenter, embeddings, labels, proxies, indices_tuple=None, **options):
    """Return the loss of the real and the synthetic batch together.

    A mined tuple is of the real rows; those that are made of a row are named wherever it is.
    """
    batch = synthetic_batch(case, augmenter, embeddings, labels, proxies)
    rows, row_labels = torch.cat([embeddings, batch.embeddings]), torch.cat([labels, batch.labels])
    weights = None
    if batch.weights is not None:
        weights = torch.cat([torch.ones(len(labels)), batch.weights])
    if indices_tuple is not None:
        source = batch.source.tolist()
        made = {i: [len(labels) + m for m, s in enumerate(source) if s == i] for i in source}
        # What has no source in the batch counts like what is named most often; in ProxyNCALoss,
        # which counts anchors alone, as an anchor.
        anchors_only = case.name == "ProxyNCALoss"
        counted = lmu.get_anchors(indices_tuple) if anchors_only else torch.cat(indices_tuple)
        without = made.pop(-1, []) * int(counted.bincount().max())
        indices_tuple = [name_also(made, indices) for indices in indices_tuple]
        indices_tuple[0] = torch.cat([indices_tuple[0], torch.tensor(without, dtype=torch.int64)])
    all_proxies = torch.cat([proxies, batch.proxies])
    return loss_of(case, rows, row_labels, all_proxies, weights, indices_tuple, **options)


def name_also(made, indices):
    named = indices.tolist()
    return torch.tensor(named + [m for i in named for m in made.get(i, [])], dtype=torch.int64)


def synthetic_loss(case, augmenter, embeddings, labels, proxies, **options):
    """Return the loss of the synthetic batch alone."""
    batch = synthetic_batch(case, augmenter, embeddings, labels, proxies)
    all_proxies = torch.cat([proxies, batch.proxies])
    return loss_of(case, batch.embeddings, batch.labels, all_proxies, batch.weights, **options)


def real_parents(batch, labels):
    """Return the real class behind each synthetic embedding: of its source, or as it is given."""
    sources = enumerate(batch.source.tolist())
    return torch.stack([batch.parent[m] if i < 0 else labels[i] for m, i in sources])


def loss_of(case, rows, labels, proxies, weights=None, indices_tuple=None, **options):
    """Return the loss of rows with labels and, if there are any, weights and a mined tuple."""
    if weights is None:
        return case.build_with(proxies, **options)(rows, labels, indices_tuple)
    one_hot = torch.nn.functional.one_hot(labels, len(proxies))
    mined = None if indices_tuple is None else mined_weights(case, indices_tuple, len(rows))
    return soft_label_loss(case, rows, one_hot * weights[:, None], proxies, mined, **options)
