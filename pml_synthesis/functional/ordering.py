"""An order of the rows of a batch that does not depend on the order in which they came."""

import torch
from torch import Tensor

from .precision import finest_dtype

_PART = 2**14  # embeddings that are made precise at once


def row_order(embeddings: Tensor, labels: Tensor, direction: Tensor) -> Tensor:
    """Sort the rows of a batch by class and, within a class, by their projection on a direction.

    Processes that gather a batch hold the same rows, each in another order and with other last
    bits. What is drawn for "the i-th row in this order" is drawn for the same row on all of them.

    Args:
        embeddings: [B, D], only their values are used.
        labels: integers, [B].
        direction: [D], drawn at random, on any device; ties are as good as impossible.

    Returns:
        The row indices in order, int64, [B].

    Example:
        >>> embeddings, labels = torch.tensor([[2.0], [9.0], [1.0]]), torch.tensor([1, 0, 1])
        >>> row_order(embeddings, labels, torch.ones(1, dtype=torch.float64))
        tensor([1, 2, 0])
    """
    dtype, device = finest_dtype(embeddings.device), embeddings.device
    direction = direction.to(device, dtype)
    parts = embeddings.detach().split(_PART)
    projection = torch.cat([part.to(dtype) @ direction for part in parts])
    by_projection = projection.argsort()
    return by_projection[labels[by_projection].argsort(stable=True)]
