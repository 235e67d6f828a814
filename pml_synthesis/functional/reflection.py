"""Reflection of directions, as Symmetrical Synthesis does it."""

from torch import Tensor

from .precision import working_dtype
from .unit_vectors import unit


def reflect(vectors: Tensor, axes: Tensor) -> Tensor:
    r"""Reflect directions about others.

    .. math:: q = 2 \langle N(a), N(b) \rangle N(a) - N(b), \quad N(v) = v / \lVert v \rVert

    Args:
        vectors: b, [..., D].
        axes: a, [..., D].

    Returns:
        Unit vectors, [..., D], in the dtype of `vectors`; computed in float32 at least.

    Source: Gu, Ko, "Symmetrical Synthesis for Deep Metric Learning", AAAI 2020.

    Example:
        >>> import torch
        >>> reflect(torch.tensor([3.0, 4.0]), axes=torch.tensor([2.0, 0.0]))
        tensor([ 0.6000, -0.8000])
    """
    dtype = working_dtype(vectors, axes)
    b, a = unit(vectors.to(dtype)), unit(axes.to(dtype))
    reflected = 2 * (a * b).sum(dim=-1, keepdim=True) * a - b
    return reflected.to(vectors.dtype)
