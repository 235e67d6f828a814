"""Interpolation on the unit sphere, as Proxy Synthesis does it."""

import torch
from torch import Tensor

from .unit_vectors import lengths


def mix_units(first: Tensor, second: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    r"""Mix two sets of unit vectors and put the result back on the unit sphere.

    .. math:: N(\lambda a + (1 - \lambda) b), \quad N(v) = v / \lVert v \rVert

    Normalise before mixing: mixing raw vectors weighs them by their norms and is another method.

    Args:
        first: a, unit vectors, [..., D].
        second: b, unit vectors, [..., D].
        weight: lambda, in [0, 1].

    Returns:
        The unit vectors, [..., D], and the norms that they were divided by, [...]. A mix without a
        direction stays zero, and its norm is given as 1.

    Source: Gu, Ko, Kim, "Proxy Synthesis", AAAI 2021, section 3.2.

    Example:
        >>> import torch
        >>> axes = torch.eye(2)
        >>> mix_units(axes[0], axes[1], 0.5)
        (tensor([0.7071, 0.7071]), tensor(0.7071))
    """
    mixed = torch.lerp(second, first, weight)
    norms = lengths(mixed)
    return mixed / norms.unsqueeze(-1), norms
