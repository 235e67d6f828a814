"""Interpolation on the unit sphere, as Proxy Synthesis does it."""

import torch
from torch import Tensor

from .precision import working_dtype
from .unit_vectors import lengths, unit


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
        The unit vectors, [..., D], and the norms that they were divided by, [...], 1 for a mix that
        has no direction. Both in float32 at least.

    Example:
        >>> import torch
        >>> axes = torch.eye(2)
        >>> interpolate_with_norms(axes[0], axes[1], 0.5)
        (tensor([0.7071, 0.7071]), tensor(0.7071))
    """
    dtype = working_dtype(first, second)
    mixed = torch.lerp(unit(second.to(dtype)), unit(first.to(dtype)), weight)
    norms = lengths(mixed)
    return mixed / norms.unsqueeze(-1), norms
