"""Interpolation on the unit sphere, as Proxy Synthesis does it."""

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
    dtype = working_dtype(first, second)
    a, b = normalize(first.to(dtype), dim=-1), normalize(second.to(dtype), dim=-1)
    return normalize(weight * a + (1 - weight) * b, dim=-1).to(first.dtype)
