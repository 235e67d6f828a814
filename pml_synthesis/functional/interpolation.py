"""Interpolation on the unit sphere, as Proxy Synthesis does it."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .precision import working_dtype


def interpolate(first: Tensor, second: Tensor, weight: float) -> Tensor:
    r"""Mix two sets of directions and put the result back on the unit sphere.

    .. math:: N(\lambda N(a) + (1 - \lambda) N(b)), \quad N(v) = v / \lVert v \rVert

    Both are normalised before they are mixed; mixing raw vectors weighs them by their norms and is
    another method.

    Args:
        first: a, shape [..., D].
        second: b, shape [..., D].
        weight: lambda, in [0, 1].

    Returns:
        Unit vectors of shape [..., D], in the dtype of `first`; computed in float32 at least. A
        zero vector stays zero.

    Source: Gu, Ko, Kim, "Proxy Synthesis", AAAI 2021, section 3.2.

    Example:
        >>> import torch
        >>> interpolate(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 5.0]]), 0.5)
        tensor([[0.7071, 0.7071]])
    """
    mixed, _ = interpolate_with_norms(first, second, weight)
    return mixed.to(first.dtype)


def interpolate_with_norms(first: Tensor, second: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    r"""Mix like :func:`interpolate`, and return the norm of the mix beside it.

    .. math:: \lVert \lambda N(a) + (1 - \lambda) N(b) \rVert

    Args:
        first: a, shape [..., D].
        second: b, shape [..., D].
        weight: lambda, in [0, 1].

    Returns:
        The unit vectors, [..., D], and the norms before they were divided by them, [...], 1e-12 at
        least. Both in float32 at least.

    Example:
        >>> import torch
        >>> axes = torch.eye(2)
        >>> interpolate_with_norms(axes[0], axes[1], 0.5)
        (tensor([0.7071, 0.7071]), tensor(0.7071))
    """
    dtype = working_dtype(first, second)
    a, b = normalize(first.to(dtype), dim=-1), normalize(second.to(dtype), dim=-1)
    mixed = torch.lerp(b, a, weight)
    # As in normalize, a zero vector stays zero.
    norms = torch.linalg.vector_norm(mixed, dim=-1).clamp_min(1e-12)
    return mixed / norms.unsqueeze(-1), norms
