"""Orthonormal directions beside two given ones, without a factorisation per row."""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

from .._checks import expect


def random_frame(size: int, dim: int, generator: Generator) -> Tensor:
    """Draw orthonormal vectors, uniformly among all such frames.

    Args:
        size: how many, at most `dim`.
        dim: D.
        generator: a generator on the CPU.

    Returns:
        The vectors as rows, float64, [size, D].

    Raises:
        ValueError: if `size` is above `dim`.

    Example:
        >>> frame = random_frame(2, 5, torch.Generator().manual_seed(0))
        >>> torch.allclose(frame @ frame.T, torch.eye(2).double())
        True
    """
    expect(size <= dim, "size", f"at most the dimension, {dim}", size)
    q, r = torch.linalg.qr(torch.randn(dim, size, dtype=torch.float64, generator=generator))
    return (q * r.diagonal().sign()).T


def random_signs(rows: int, dim: int, generator: Generator) -> Tensor:
    """Draw +1 and -1 with equal chances.

    Args:
        rows: B.
        dim: D.
        generator: a generator on the CPU.

    Returns:
        The signs, float32, [B, D].

    Example:
        >>> random_signs(1, 3, torch.Generator().manual_seed(0)).abs()
        tensor([[1., 1., 1.]])
    """
    # Eight at a time, since each draw takes as long as all the rest.
    octets = math.ceil(rows * dim / 8)
    drawn = torch.randint(256, (octets,), dtype=torch.int32, generator=generator)
    return _SIGNS_OF_BYTE.index_select(0, drawn).flatten()[: rows * dim].view(rows, dim)


_BITS = (torch.arange(256).unsqueeze(1) >> torch.arange(8)) & 1
_SIGNS_OF_BYTE = (1 - 2 * _BITS).to(torch.float32)


def pad_first_axes(vectors: Tensor) -> Tensor:
    """Give vectors, [N, D - 2], two more coordinates of zero, in front, [N, D]."""
    return functional.pad(vectors, (2, 0))


def householder_coefficients(
    vectors: Tensor, signs: Tensor, directions: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Return the coefficients of what two Householder reflections add to vectors with signs.

    The reflections,

    .. math:: H_1: e_0 \mapsto \pm w, \qquad H_2: H_1 e_1 \mapsto \pm u, \quad H_2 w = w

    each with the sign that avoids cancellation, carry all that is orthogonal to the first two axes
    to what is orthogonal to w and u. There they carry vectors that are drawn for the batch, with
    coordinates multiplied by the signs of the row, which keeps all angles and gives each row
    directions of its own.

    With x one of the vectors with the signs of the row and

    .. math::
        a = \frac{\pm 1}{1 + |w_0|}, \quad t = a \langle x, w \rangle, \quad b = a w_1, \quad
        g = u_1 - b u_0, \quad f = \frac{\mp 1}{1 + |g|} (\langle x, u \rangle - t u_0), \quad
        e = -(b f + t)

    the two reflections together are :math:`H_2 H_1 x = x + e (e_0 \pm w) + f (e_1 \pm u)`.

    Args:
        vectors: orthogonal to the first two axes, [N, D].
        signs: +1 or -1, [B, D].
        directions: w and u, orthonormal, [B, 2, D].

    Returns:
        The coefficients of the first two axes, and those of the two directions, both [B, N, 2].
    """
    along_first, along_second = ((directions * signs.unsqueeze(1)) @ vectors.T).unbind(dim=1)
    w_0, w_1, u_0, u_1 = directions[:, :, :2].flatten(1).split(1, dim=1)
    first_sign = _sign(w_0)
    a = first_sign / (1 + w_0.abs())
    t, b = a * along_first, a * w_1
    g = u_1 - b * u_0
    second_sign = _sign(g)
    f = (t * u_0 - along_second) * (second_sign / (1 + g.abs()))
    e = -torch.addcmul(t, b, f)
    on_axes = torch.stack([e, f], dim=2)
    return on_axes, on_axes * torch.stack([first_sign, second_sign], dim=2)


def add_reflections_(
    vectors: Tensor, on_axes: Tensor, on_directions: Tensor, directions: Tensor
) -> Tensor:
    """Add multiples of the first two axes and of two directions to vectors, in place.

    Args:
        vectors: [B, N, D].
        on_axes: [B, N, 2].
        on_directions: [B, N, 2].
        directions: [B, 2, D].

    Returns:
        The vectors, [B, N, D].
    """
    # In place: it is the large tensors that take time.
    vectors.baddbmm_(on_directions, directions)
    vectors[:, :, :2] += on_axes
    return vectors


def _sign(numbers: Tensor) -> Tensor:
    """Return -1 where a number is negative, else 1."""
    return torch.where(numbers < 0, -1.0, 1.0).to(numbers)
