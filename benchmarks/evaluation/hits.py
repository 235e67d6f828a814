"""What each image of a test retrieves first, and how well."""

from pathlib import Path

import torch
from torch import Tensor

from benchmarks import files

SHOWN = 6  # hits of each query that are kept


def average_precision(right: Tensor, relevant: Tensor) -> Tensor:
    """Return the summands of MAP@R, float64 [N]: nan for a query that has nothing to retrieve.

    Arguments:
        right: whether each neighbour is of the class of the query, the nearest first, [N, K] with
            K of at least the largest of `relevant`.
        relevant: R, how many others there are of the class of each query, [N].

    Example:
        >>> right = torch.tensor([[True, False, True], [False, True, False]])
        >>> average_precision(right, torch.tensor([2, 2])).tolist()
        [0.5, 0.25]
    """
    ranks = torch.arange(1, right.shape[1] + 1, dtype=torch.float64)
    counted = right & (ranks <= relevant[:, None])
    return (counted * right.cumsum(dim=1) / ranks).sum(dim=1) / relevant


def save_hits(
    neighbours: Tensor, labels: Tensor, gallery_labels: Tensor | None, path: Path
) -> None:
    """Keep the first hits of each query, and its average precision.

    Arguments:
        neighbours: places in the gallery, the nearest first, [N, K], without the query itself.
        labels: of the queries, [N].
        gallery_labels: of the gallery; None where queries retrieve each other.
        path: of the file.
    """
    neighbours = neighbours.cpu()
    itself = gallery_labels is None
    searched = labels if gallery_labels is None else gallery_labels
    counts = torch.bincount(searched, minlength=int(labels.max()) + 1)
    right = searched[neighbours] == labels[:, None]
    hits = {
        "average_precision": average_precision(right, counts[labels] - int(itself)),
        "neighbours": neighbours[:, :SHOWN].int(),
        "right": right[:, :SHOWN].clone(),
    }
    files.save(hits, path)
