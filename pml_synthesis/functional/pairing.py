"""Pairs of embeddings: always of two classes, or always of one."""

import torch
from torch import Tensor


def class_distinct_pairs(
    sorted_labels: Tensor, class_places: Tensor, member_order: Tensor
) -> Tensor:
    r"""Pair the embeddings of a batch with ones of other classes, without a loop over them.

    The classes are laid out one after the other in a random order, and so are the members of each
    class. With c the size of the largest class and r the rank of an embedding within its own, the
    one at position t is paired with the one at

    .. math:: t + (r + 1) c \mod B, \quad\text{or, where that is its own class,}\quad t + c \mod B

    and left out where both are. So the members of a class meet different classes: where all B / c
    classes have c members and c < B / c, no ordered pair of classes occurs twice. Which members of
    two classes meet is random. All embeddings are paired whenever no class exceeds half of the
    batch, and otherwise at least twice as many as there are outside of that class.

    Args:
        sorted_labels: the labels in ascending order, [B].
        class_places: a permutation, [G]: the places of the G classes of the batch in the layout, in
            ascending order of their labels: the draw.
        member_order: a permutation of the positions in `sorted_labels`, [B]: members of a class
            follow one another as in it: the draw.

    Returns:
        Positions in `sorted_labels`, int64, [2, P]: each embedding that could be paired, and its
        partner. P <= B.

    Example:
        >>> labels, in_order = torch.tensor([3, 3, 5, 5, 8, 8]), torch.arange(6)
        >>> class_distinct_pairs(labels, torch.tensor([0, 1, 2]), in_order)
        tensor([[0, 1, 2, 3, 4, 5],
                [2, 5, 4, 1, 0, 3]])
    """
    batch_size, device = len(sorted_labels), sorted_labels.device
    if batch_size == 0:
        return torch.empty(2, 0, dtype=torch.int64, device=device)
    class_index = torch.unique_consecutive(sorted_labels, return_inverse=True)[1]
    place, in_layout = class_places[class_index][member_order].sort(stable=True)
    layout = member_order[in_layout]

    position = torch.arange(batch_size, device=device)
    rank = position - torch.searchsorted(place, place)
    largest = rank.max() + 1
    partner = (position + (rank + 1) * largest) % batch_size
    fallback = (position + largest) % batch_size
    partner = torch.where(place[partner] == place, fallback, partner)
    valid = place[partner] != place
    return torch.stack([layout, layout[partner]])[:, valid]


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


def class_matching_pairs(sorted_labels: Tensor, member_order: Tensor) -> Tensor:
    """Match the embeddings of each class two by two, without a loop over them.

    The members of a class follow one another in a random order. The first and the second are each
    other's partners, so are the third and the fourth, and so on. The last one of an odd number
    takes the one before it, which keeps its own partner. An embedding that is alone is left out.

    Args:
        sorted_labels: the labels in ascending order, [B].
        member_order: a permutation of the positions in `sorted_labels`, [B]: members of a class
            follow one another as in it: the draw.

    Returns:
        Positions in `sorted_labels`, int64, [2, P]: each embedding that could be paired, and its
        partner. P <= B.

    Example:
        >>> labels, order = torch.tensor([3, 3, 3, 5, 8, 8]), torch.tensor([4, 2, 0, 3, 1, 5])
        >>> class_matching_pairs(labels, order)
        tensor([[2, 0, 1, 4, 5],
                [0, 2, 0, 5, 4]])
    """
    layout = member_order[sorted_labels[member_order].argsort(stable=True)]
    sizes = torch.unique_consecutive(sorted_labels, return_counts=True)[1]
    ends = sizes.cumsum(0)
    position = torch.arange(len(sorted_labels), device=sorted_labels.device)
    place = torch.searchsorted(ends, position, right=True)
    size, start = sizes[place], (ends - sizes)[place]

    rank = position - start
    other = rank + 1 - 2 * (rank % 2)
    partner = start + torch.where(other < size, other, rank - 1)
    valid = size > 1
    return torch.stack([layout[valid], layout[partner[valid]]])
