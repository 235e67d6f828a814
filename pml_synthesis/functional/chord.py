"""Points on the chord between two directions, as Embedding Expansion takes them."""

import torch
from torch import Tensor

from .precision import working_dtype
from .unit_vectors import unit

_SHORTEST = 0.01


def inner_points(first: Tensor, second: Tensor, num_points: int) -> Tensor:
    r"""Divide the chord between two directions into equal parts and put the points on the sphere.

    .. math::
        \tilde x_k = N\!\left( \frac{(n + 1 - k) N(a) + k N(b)}{n + 1} \right), \quad
        k = 1, \dots, n, \quad N(v) = v / \lVert v \rVert

    The parts of the chord are equal, the angles between the points are not. A point closer to the
    origin than 0.01, as between two nearly opposite directions, is left out: it is the nearer end
    of the chord instead.

    Args:
        first: a, [..., D].
        second: b, [..., D].
        num_points: n, at least 0.

    Returns:
        Unit vectors, [..., n, D], in the dtype of `first`; computed in float32 at least.

    Source: Ko, Gu, "Embedding Expansion", CVPR 2020.

    Example:
        >>> import torch
        >>> inner_points(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0]), num_points=2)
        tensor([[0.8944, 0.4472],
                [0.4472, 0.8944]])
    """
    dtype = working_dtype(first, second)
    a, b = unit(first.to(dtype)).unsqueeze(-2), unit(second.to(dtype)).unsqueeze(-2)
    shares = torch.arange(1, num_points + 1, device=a.device).to(dtype) / (num_points + 1)
    shares = shares.unsqueeze(1)
    points = torch.lerp(a, b, shares)
    # Divided by its length, a short one would be rounding errors, with gradients as large.
    short = torch.linalg.vector_norm(points.detach(), dim=-1, keepdim=True) < _SHORTEST
    return unit(torch.where(short, torch.where(shares <= 0.5, a, b), points)).to(first.dtype)
