"""What the tuples of a PML miner, which name real rows, mean for synthetic ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu
from torch import Tensor


@contextmanager
def mined_weights_inherited(real_labels: Tensor, real_rows: Tensor) -> Iterator[None]:
    """Let each row of a proxy loss weigh what the real row behind it weighs in the mined tuple.

    PML's proxy losses turn a tuple into weights of rows: how often a row is named, divided by the
    largest such count. A tuple of the rows of the call cannot say this of synthetic rows alone, as
    the largest count may be that of a real row that is not among them.

    Args:
        real_labels: of the real rows, [B].
        real_rows: for each row of the call the real row behind it, [N].
    """
    convert = lmu.convert_to_weights

    def convert_for_real_rows(
        indices_tuple: Any, labels: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        return convert(indices_tuple, real_labels, *args, **kwargs)[real_rows]

    lmu.convert_to_weights = convert_for_real_rows
    try:
        yield
    finally:
        lmu.convert_to_weights = convert


def repeat_for_synthetic(
    indices_tuple: tuple[Tensor, ...] | None, source: Tensor, batch_size: int
) -> tuple[Tensor, ...] | None:
    """Repeat each mined tuple for each synthetic row made from its anchor, with that row as the
    anchor.

    Args:
        indices_tuple: triplets (a, p, n), or pairs (a, p) and (a, n) as (a, p, a, n), or None.
        source: for each synthetic row the real row that it was made from, [M].
        batch_size: B; the synthetic rows are the rows from B on.

    Returns:
        The tuples and their repetitions, or None.

    Example:
        >>> triplet = torch.tensor([0]), torch.tensor([1]), torch.tensor([2])
        >>> repeat_for_synthetic(triplet, source=torch.tensor([0]), batch_size=3)
        (tensor([0, 3]), tensor([1, 1]), tensor([2, 2]))
    """
    if indices_tuple is None:
        return None
    if len(indices_tuple) == 4:
        a1, p, a2, n = indices_tuple
        return _repeat(a1, (p,), source, batch_size) + _repeat(a2, (n,), source, batch_size)
    anchors, *others = indices_tuple
    return _repeat(anchors, tuple(others), source, batch_size)


def _repeat(
    anchors: Tensor, others: tuple[Tensor, ...], source: Tensor, batch_size: int
) -> tuple[Tensor, ...]:
    by_source = source.argsort(stable=True)
    made = torch.bincount(source, minlength=batch_size)
    start = made.cumsum(0) - made

    times = made[anchors]
    tuples = torch.repeat_interleave(times)
    rank = torch.arange(len(tuples), device=tuples.device) - (times.cumsum(0) - times)[tuples]
    synthetic = batch_size + by_source[start[anchors[tuples]] + rank]
    repeated = (torch.cat([other, other[tuples]]) for other in others)
    return (torch.cat([anchors, synthetic]), *repeated)
