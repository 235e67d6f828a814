"""Synthetic embeddings on a regular simplex around the class proxy."""

import torch
from torch import Tensor

from .orthonormal import reflections
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
        frame: K + 1 <= D orthonormal vectors, [K + 1, D]: the draw.
        signs: +1 or -1, [B, D]: the draw.

    Returns:
        The synthetic embeddings, [B, K, D], in the dtype of `embeddings`; computed in float32 at
        least.

    Source: Le, Woo, "Spherical Embedding Expansion", PAKDD 2024, and its released code.

    Example:
        >>> from pml_synthesis.functional import random_frame, random_signs
        >>> draws = torch.Generator().manual_seed(0)
        >>> z, w = torch.tensor([[0.6, 0.8, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> points = spherical_expansion(z, w, random_frame(3, 3, draws), random_signs(1, 3, draws))
        >>> points.shape, points[0] @ w[0]
        (torch.Size([1, 2, 3]), tensor([0.6000, 0.6000]))
    """
    dtype = working_dtype(embeddings, proxies)
    z, w = unit(embeddings.to(dtype)), unit(proxies.to(dtype))

    along = (z * w).sum(dim=1, keepdim=True) * w
    residual = z - along
    radius = torch.linalg.vector_norm(residual, dim=1, keepdim=True)
    # Without a residual any direction will do, since the radius is zero.
    direction = residual / torch.where(radius > 0, radius, 1.0)

    # The turn is linear, so the vertices are mixed once for the batch and then turned, not turned
    # and mixed for each row.
    # So does the frame: in its own dtype, on its own device.
    vertices = simplex_vertices(len(frame) - 1)[1:].to(frame)
    mixed = (vertices[:, 1:] @ frame[2:]).to(z)
    signs = signs.to(z)
    turns, mirrors = reflections(mixed, frame[:2].to(z), signs, w, direction)
    # All that has few directions at once, and in place: it is the large tensors that take time.
    of_residual = vertices[:, 0].to(z).expand(len(z), -1)
    shares = torch.ones_like(of_residual), of_residual, *(-radius * turn for turn in turns)
    known = torch.stack(shares, dim=2), torch.stack([along, residual, *mirrors], dim=1)
    points = mixed * (radius * signs).unsqueeze(1)
    return points.baddbmm_(*known).to(embeddings.dtype)
