"""Synthetic embeddings on a regular simplex around the class proxy."""

import torch
from torch import Tensor

from .orthonormal import add_reflections_, householder_coefficients, pad_first_axes
from .precision import working_dtype
from .simplex import simplex_vertices
from .unit_vectors import unit


def spherical_expansion(
    embeddings: Tensor, proxies: Tensor, frame: Tensor, signs: Tensor
) -> Tensor:
    r"""Expand each embedding to the other vertices of a regular simplex around its proxy, on the
    sphere.

    With z and w the unit embedding and its unit proxy,

    .. math::
        M = \langle z, w \rangle w, \quad r = z - M, \quad
        \tilde z_k = M + \lVert r \rVert \sum_{j=1}^{K} a_{kj} u_j, \quad k = 1, \dots, K

    where :math:`u_1 = r / \lVert r \rVert`, :math:`u_2, \dots, u_K` complete {w, u_1} orthonormally
    and :math:`a_0 = e_1, a_1, \dots, a_K` are the vertices of a regular simplex: z itself would be
    k = 0. Each :math:`\tilde z_k` is a unit vector with the cosine of z to w, and the K + 1 points
    average to M. Where z equals w, so do all points.

    Args:
        embeddings: [B, D], not necessarily of unit norm.
        proxies: the proxy of each row's class, [B, D].
        frame: K - 1 orthonormal vectors, [K - 1, D - 2], K < D: the draw.
        signs: +1 or -1, [B, D]: the draw.

    Returns:
        The synthetic embeddings, [B, K, D], in the dtype of `embeddings`; computed in float32 at
        least.

    Source: Le, Woo, "Spherical Embedding Expansion", PAKDD 2024, and its released code.

    Example:
        >>> from pml_synthesis.functional import random_frame, random_signs
        >>> draws = torch.Generator().manual_seed(0)
        >>> z, w = torch.tensor([[0.6, 0.8, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> points = spherical_expansion(z, w, random_frame(1, 1, draws), random_signs(1, 3, draws))
        >>> points.shape, points[0] @ w[0]
        (torch.Size([1, 2, 3]), tensor([0.6000, 0.6000]))
    """
    dtype = working_dtype(embeddings, proxies)
    z, w = unit(embeddings.to(dtype)), unit(proxies.to(dtype))

    cosine = (z * w).sum(dim=1, keepdim=True)
    residual = torch.addcmul(z, cosine, w, value=-1)
    radius = torch.linalg.vector_norm(residual, dim=1, keepdim=True)
    # Without a residual any direction will do, since the radius is zero.
    direction = residual / torch.where(radius > 0, radius, 1.0)

    # Reflections are linear, so the vertices are mixed once for the batch and then reflected, not
    # reflected and mixed for each row. They are mixed in the dtype of the frame, on its device.
    vertices = simplex_vertices(len(frame) + 1)[1:].to(frame)
    mixed = pad_first_axes(vertices[:, 1:] @ frame).to(z)
    signs = signs.to(z)
    directions = torch.stack([w, direction], dim=1)
    on_axes, on_directions = householder_coefficients(mixed, signs, directions)

    radii = radius.unsqueeze(2)
    of_center = cosine + radius * on_directions[:, :, 0]
    of_residual = radius * (vertices[:, 0].to(z) + on_directions[:, :, 1])
    shares = torch.stack([of_center, of_residual], dim=2)
    points = mixed * (radius * signs).unsqueeze(1)
    return add_reflections_(points, radii * on_axes, shares, directions).to(embeddings.dtype)
