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
    dtype = working_dtype(first, second)
    mixed, _ = mix_units(unit(first.to(dtype)), unit(second.to(dtype)), weight)
    return mixed.to(first.dtype)


def mix_units(first: Tensor, second: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    r"""Mix unit vectors like :func:`interpolate`, and return the norm of the mix beside it.

    .. math:: \lVert \lambda a + (1 - \lambda) b \rVert

    Args:
        first: a, unit vectors, [..., D].
        second: b, unit vectors, [..., D].
        weight: lambda, in [0, 1].

    Returns:
        The unit vectors, [..., D], and the norms that they were divided by, [...], 1 for a mix that
        has no direction.

    Example:
        >>> import torch
        >>> axes = torch.eye(2)
        >>> mix_units(axes[0], axes[1], 0.5)
        (tensor([0.7071, 0.7071]), tensor(0.7071))
    """
    mixed = torch.lerp(second, first, weight)
    norms = lengths(mixed)
    return mixed / norms.unsqueeze(-1), norms
