"""Unit vectors, with bounded gradients where a vector has no direction."""

import torch
from torch import Tensor


def unit(vectors: Tensor) -> Tensor:
    r"""Divide vectors by their lengths, :math:`N(v) = v / \lVert v \rVert`.

    Args:
        vectors: [..., D].

    Returns:
        Unit vectors, [..., D]. One shorter than 1e-12 stays as it is: `normalize` of torch divides
        it by 1e-12, and its gradient too, which overflows where that happens several times.

    Example:
        >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    return vectors / lengths(vectors).unsqueeze(-1)


def lengths(vectors: Tensor) -> Tensor:
    """Return what :func:`unit` divides by, [...]: the lengths, or 1 below 1e-12.

    Example:
        >>> lengths(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([5., 1.])
    """
    norms = torch.linalg.vector_norm(vectors, dim=-1)
    return torch.where(norms > 1e-12, norms, 1.0)
