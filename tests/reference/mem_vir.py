"""MemVir (Ko, Gu, Kim, ICCV 2021), by a list of all earlier steps."""

import torch
from pytorch_metric_learning import losses

from pml_synthesis import SyntheticBatch

from .order import in_order

EXAMPLES = {
    # As large as the largest batch of the common tests.
    "every step": {"batch_size": 3000, "num_steps": 2, "step_gap": 0, "warm_up_steps": 0},
    "with a gap": {"batch_size": 64, "num_steps": 2, "step_gap": 1, "warm_up_steps": 1},
}
# The examples remember one proxy per class.
REFUSED_BY = (losses.SoftTripleLoss, losses.SubCenterArcFaceLoss)


def synthesize(memvir, embeddings, labels, proxies, _):
    """Return the synthetic batch that is made of the memory."""
    return recalled(history_of(memvir), memvir.num_steps, memvir.step_gap, embeddings, proxies)


def history_of(memvir):
    """Return what the memory holds, a step after another: (embeddings, labels, proxies)."""
    slots = memvir.num_steps * (memvir.step_gap + 1)
    history = []
    for number in range(max(0, memvir.num_remembered - slots), memvir.num_remembered):
        slot = number % slots
        size = memvir.sizes[slot]
        of_step = memvir.embeddings[slot][:size], memvir.labels[slot][:size], memvir.proxies[slot]
        history.append(of_step)
    return history


def remembered(embeddings, labels, proxies):
    """Return what is kept of a step: copies, the embeddings in their canonical order."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(embeddings.shape[1], dtype=torch.float64, generator=generator)
    order = in_order(embeddings, labels, direction)
    return embeddings[order].detach().clone(), labels[order].clone(), proxies.detach().clone()


def recalled(history, num_steps, step_gap, embeddings, proxies):
    """Return what a list of earlier steps adds to a batch."""
    rows, labels, parents, new_proxies = [], [], [], []
    for k in range(1, num_steps + 1):
        age = k * (step_gap + 1)
        if age > len(history):
            break
        old_rows, old_labels, old_proxies = history[-age]
        for row, label in zip(old_rows, old_labels.tolist(), strict=True):
            rows.append(row.to(embeddings))
            parents.append(label)
            labels.append(label + k * len(proxies))
        new_proxies += [proxy.to(embeddings) for proxy in old_proxies]
    return SyntheticBatch(
        torch.stack(rows) if rows else embeddings[:0],
        torch.tensor(labels, dtype=torch.int64),
        torch.stack(new_proxies) if new_proxies else proxies[:0],
        torch.full((len(rows),), -1),
        parent=torch.tensor(parents, dtype=torch.int64),
    )
