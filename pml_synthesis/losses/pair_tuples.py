"""Extends the tuples of a PML miner from real to synthetic embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

Tuples = tuple[Tensor, ...]


def repeat_for_anchors(indices_tuple: Tuples, source: Tensor, start: int) -> Tuples:
    """Repeat each mined tuple for each synthetic embedding made from its anchor, with that as the
    anchor.

    Args:
        indices_tuple: triplets (a, p, n), or pairs (a, p) and (a, n) as (a, p, a, n).
        source: for each synthetic embedding the real one that it was made from, or -1, [M].
        start: the index of the first synthetic embedding.

    Returns:
        The tuples and their repetitions.

    Example:
        >>> triplet = torch.tensor([0]), torch.tensor([1]), torch.tensor([2])
        >>> repeat_for_anchors(triplet, source=torch.tensor([0]), start=3)
        (tensor([0, 3]), tensor([1, 1]), tensor([2, 2]))
    """
    if len(indices_tuple) == 4:
        positive, negative = indices_tuple[:2], indices_tuple[2:]
        return _repeated(positive, 0, source, start) + _repeated(negative, 0, source, start)
    return _repeated(indices_tuple, 0, source, start)


def repeat_for_candidates(indices_tuple: Tuples, source: Tensor, start: int) -> Tuples:
    """Repeat each mined tuple for each candidate made from its positive or its negative, with the
    candidate in that place.

    Args:
        indices_tuple: as :func:`repeat_for_anchors`.
        source: for each candidate the real embedding that it was made from, or -1, [M].
        start: the index of the first candidate.

    Returns:
        The tuples and their repetitions.

    Example:
        >>> triplet = torch.tensor([0]), torch.tensor([1]), torch.tensor([2])
        >>> repeat_for_candidates(triplet, source=torch.tensor([1, 2]), start=3)
        (tensor([0, 0, 0]), tensor([1, 3, 1]), tensor([2, 2, 4]))
    """
    if len(indices_tuple) == 4:
        positive, negative = indices_tuple[:2], indices_tuple[2:]
        return _repeated(positive, 1, source, start) + _repeated(negative, 1, source, start)
    with_positives = _repeated(indices_tuple, 1, source, start)
    with_negatives = _repetitions(indices_tuple, 2, source, start)
    return _concatenated(with_positives, with_negatives)


def candidate_pairs(labels: Tensor, candidate_labels: Tensor, source: Tensor, start: int) -> Tuples:
    """Pair real anchors with candidates of the same and of other classes, their own copies left
    out.

    Args:
        labels: [B].
        candidate_labels: [M].
        source: [M].
        start: the index of the first candidate.

    Returns:
        Pairs as (a, p, a, n).

    Example:
        >>> labels = torch.tensor([0, 0])
        >>> candidate_pairs(labels, torch.tensor([0, 1]), torch.tensor([0, 1]), start=2)
        (tensor([1]), tensor([2]), tensor([0, 1]), tensor([3, 3]))
    """
    same = labels.unsqueeze(1) == candidate_labels
    own = torch.arange(len(labels), device=labels.device).unsqueeze(1) == source
    anchors, positives = torch.where(same & ~own)
    other_anchors, negatives = torch.where(~same)
    return anchors, positives + start, other_anchors, negatives + start


def drop_foreign_mixes(
    indices_tuple: Tuples, labels: Tensor, partner: Tensor, start: int
) -> Tuples:
    """Drop the tuples whose negative is a mix of the anchor itself or of two other classes.

    What is left of mixes is mixed from an embedding of the anchor's class, another one, and one of
    a different class.

    Args:
        indices_tuple: as :func:`repeat_for_anchors`.
        labels: of the anchors, those of the real embeddings first.
        partner: for each candidate the real embedding that it is mixed with, or -1, [M].
        start: the index of the first candidate.

    Returns:
        The other tuples.

    Example:
        >>> labels, partner = torch.tensor([0, 0, 1, 2]), torch.tensor([0])
        >>> anchors, negatives = torch.tensor([0, 1, 3]), torch.tensor([4, 4, 4])
        >>> none = anchors[:0]
        >>> drop_foreign_mixes((none, none, anchors, negatives), labels, partner, start=4)[2:]
        (tensor([1]), tensor([4]))
    """
    anchors, negatives = indices_tuple[2 if len(indices_tuple) == 4 else 0], indices_tuple[-1]
    mixed_with = partner[(negatives - start).clamp_min(0)]
    ordinary = (negatives < start) | (mixed_with < 0)
    kept = ordinary | ((labels[anchors] == labels[mixed_with]) & (anchors != mixed_with))
    if len(indices_tuple) == 4:
        return *indices_tuple[:2], anchors[kept], negatives[kept]
    return tuple(part[kept] for part in indices_tuple)


def join_pairs(first: Tuples, second: Tuples) -> Tuples:
    """Put two sets of pairs (a, p, a, n) together; triplets among them become pairs.

    Example:
        >>> pair = tuple(torch.tensor([i]) for i in (0, 1, 0, 2))
        >>> join_pairs(pair, pair)[1]
        tensor([1, 1])
    """
    return _concatenated(*(x if len(x) == 4 else (*x[:2], x[0], x[2]) for x in (first, second)))


def _repeated(tuples: Tuples, place: int, source: Tensor, start: int) -> Tuples:
    return _concatenated(tuples, _repetitions(tuples, place, source, start))


def _concatenated(first: Tuples, second: Tuples) -> Tuples:
    return tuple(torch.cat(pair) for pair in zip(first, second, strict=True))


def _repetitions(tuples: Tuples, place: int, source: Tensor, start: int) -> Tuples:
    """Return, for each synthetic embedding made from the one in that place of a tuple, the tuple
    with the synthetic one there."""
    named = tuples[place]
    by_source = source.argsort(stable=True)
    ordered = source[by_source]
    first = torch.searchsorted(ordered, named)
    times = torch.searchsorted(ordered, named, right=True) - first

    which = torch.repeat_interleave(times)
    rank = torch.arange(len(which), device=which.device) - (times.cumsum(0) - times)[which]
    synthetic = start + by_source[first[which] + rank]
    return tuple(synthetic if i == place else part[which] for i, part in enumerate(tuples))
