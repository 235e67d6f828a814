"""The regular simplex."""

import torch
from torch import Tensor

from .._checks import expect


def simplex_vertices(dim: int) -> Tensor:
    r"""Return the K + 1 vertices of a regular simplex in K dimensions: unit vectors as far apart as
    can be.

    .. math:: \langle a_i, a_j \rangle = -1/K \;(i \ne j), \quad a_0 = e_1

    These are the centres of the Max-Mahalanobis distribution, here in closed form: with j counted
    from 0, :math:`a_{jj}^2 = (K + 1)(K - j) / (K (K - j + 1))`, :math:`a_{kj} = -a_{jj} / (K - j)`
    for k > j, and 0 for k < j.

    Args:
        dim: K, at least 1.

    Returns:
        The vertices as rows, float64, [K + 1, K].

    Raises:
        ValueError: if `dim` is below 1.

    Source: Pang, Du, Zhu, "Max-Mahalanobis Linear Discriminant Analysis Networks", ICML 2018,
    algorithm 1.

    Example:
        >>> simplex_vertices(2)
        tensor([[ 1.0000,  0.0000],
                [-0.5000,  0.8660],
                [-0.5000, -0.8660]], dtype=torch.float64)
    """
    expect(dim >= 1, "dim", "at least 1", dim)
    left = dim - torch.arange(dim, dtype=torch.float64)
    diagonal = ((dim + 1) * left / (dim * (left + 1))).sqrt()
    below = (-diagonal / left).expand(dim + 1, dim).tril(diagonal=-1)
    return below + torch.eye(dim + 1, dim, dtype=torch.float64) * diagonal
