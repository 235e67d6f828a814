"""Pairs of rows: of two classes always, or of one always."""

import torch
from torch import Tensor


def class_distinct_pairs(sorted_labels: Tensor, class_order: Tensor) -> Tensor:
    r"""Pair the rows of a batch with rows of other classes, without a loop over rows.

    The classes are laid out one after the other in a random order. With c the size of the largest
    class and r the rank of a row within its own, the row at position t is paired with the one at

    .. math:: t + (r + 1) c \mod B, \quad\text{or, where that is its own class,}\quad t + c \mod B

    and left out where both are. So the rows of a class meet different classes: where all B / c
    classes have c rows and c < B / c, no ordered pair of classes occurs twice. All rows are paired
    whenever no class exceeds half of the batch, and otherwise at least twice as many as there are
    rows outside of that class.

    Args:
        sorted_labels: the labels in ascending order, [B].
        class_order: a permutation of the G classes of the batch (of their ranks 0 .. G - 1), [G]:
            the draw.

    Returns:
        Positions in `sorted_labels`, int64, [2, P]: each row that could be paired, and its partner.
        P <= B.

    Example:
        >>> class_distinct_pairs(torch.tensor([3, 3, 5, 5, 8, 8]), torch.tensor([0, 1, 2]))
        tensor([[0, 1, 2, 3, 4, 5],
                [2, 5, 4, 1, 0, 3]])
    """
    batch_size, device = len(sorted_labels), sorted_labels.device
    if batch_size == 0:
        return torch.empty(2, 0, dtype=torch.int64, device=device)
    sizes_by_label = torch.unique_consecutive(sorted_labels, return_counts=True)[1]
    starts_by_label = sizes_by_label.cumsum(0) - sizes_by_label

    sizes = sizes_by_label[class_order]
    ends = sizes.cumsum(0)
    position = torch.arange(batch_size, device=device)
    # As repeat_interleave does, which wakes up all threads even for a few numbers.
    place = torch.searchsorted(ends, position, right=True)
    classes = class_order[place]
    rank = position - (ends - sizes)[place]

    largest = sizes.max()
    partner = (position + (rank + 1) * largest) % batch_size
    fallback = (position + largest) % batch_size
    partner = torch.where(classes[partner] == classes, fallback, partner)
    valid = classes[partner] != classes

    sorted_position = starts_by_label[classes] + rank
    return torch.stack([sorted_position, sorted_position[partner]])[:, valid]


def class_sharing_pairs(sorted_labels: Tensor, draws: Tensor) -> Tensor:
    r"""Pair the rows of a batch with other rows of their class, without a loop over rows.

    With n the size of a class, r the rank of a row within it and d its draw, the row is paired with
    the one of rank

    .. math:: (r + 1 + (d \mod (n - 1))) \mod n

    which is any other row of the class with equal chances. A row that is alone is left out.

    Args:
        sorted_labels: the labels in ascending order, [B].
        draws: random integers of a far wider range than classes are large, none negative, [B].

    Returns:
        Positions in `sorted_labels`, int64, [2, P]: each row that could be paired, and its partner.
        P <= B.

    Example:
        >>> class_sharing_pairs(torch.tensor([3, 3, 3, 5, 8, 8]), torch.tensor([0, 1, 0, 1, 0, 1]))
        tensor([[0, 1, 2, 4, 5],
                [1, 0, 0, 5, 4]])
    """
    sizes = torch.unique_consecutive(sorted_labels, return_counts=True)[1]
    ends = sizes.cumsum(0)
    position = torch.arange(len(sorted_labels), device=sorted_labels.device)
    place = torch.searchsorted(ends, position, right=True)
    size, start = sizes[place], (ends - sizes)[place]

    others = (size - 1).clamp_min(1)
    partner = start + (position - start + 1 + draws % others) % size
    return torch.stack([position, partner])[:, size > 1]
