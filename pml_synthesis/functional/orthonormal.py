"""Orthonormal directions beside two given ones, without a factorisation per row."""

import torch
from torch import Generator, Tensor

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
    bits = torch.randint(2, (rows, dim), dtype=torch.int8, generator=generator)
    return (2 * bits - 1).to(torch.float32)


def align(vectors: Tensor, frame: Tensor, signs: Tensor, first: Tensor, second: Tensor) -> Tensor:
    r"""Turn vectors, row by row, by the orthogonal map of a frame onto two directions.

    For each row, the coordinates of the frame :math:`q_0, q_1` and of the vectors are first
    multiplied by the signs of that row, which keeps all angles and gives each row other directions.
    Two Householder reflections follow,

    .. math:: H_1: q_0 \mapsto \pm w, \qquad H_2: H_1 q_1 \mapsto \pm u, \quad H_2 w = w

    each with the sign that avoids cancellation. What is orthogonal to :math:`q_0, q_1` comes out
    orthogonal to w and u.

    Args:
        vectors: [N, D].
        frame: two orthonormal vectors q_0, q_1, [2, D].
        signs: +1 or -1, [B, D].
        first: w, unit vectors, [B, D].
        second: u, unit vectors orthogonal to w, or zero where any such vector will do, [B, D].

    Returns:
        The turned vectors, [B, N, D].

    Example:
        >>> axes = torch.eye(3)
        >>> align(axes[2:], axes[:2], torch.ones(1, 3), first=axes[1:2], second=axes[2:]).abs()
        tensor([[[1., 0., 0.]]])
    """
    along, mirrors = reflections(vectors, frame, signs, first, second)
    taken = torch.stack(along, dim=2), torch.stack(mirrors, dim=1)
    # In place: it is the large tensors that take time.
    return (vectors * signs.unsqueeze(1)).baddbmm_(*taken, alpha=-1)


def reflections(
    vectors: Tensor, frame: Tensor, signs: Tensor, first: Tensor, second: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    r"""Return what the two reflections of :func:`align` take from vectors with the signs of a row.

    .. math:: H_2 H_1 x = x - a_1 h_1 - a_2 h_2

    Args:
        vectors: [N, D].
        frame: as in :func:`align`.
        signs: as in :func:`align`.
        first: as in :func:`align`.
        second: as in :func:`align`.

    Returns:
        a_1 and a_2, [B, N], and h_1 and h_2, [B, D].
    """
    q0, q1 = frame
    first_mirror = _mirror(q0 * signs, first)
    turned_q1 = q1 * signs
    turned_q1 = turned_q1.addcmul(_inner(turned_q1, first_mirror), first_mirror, value=-1)
    second_mirror = _mirror(turned_q1, second)

    # Both reflections at once: x - (x h) h, then the same with the second h.
    along_first = (signs * first_mirror) @ vectors.T
    along_second = (signs * second_mirror) @ vectors.T
    along_second = along_second - along_first * _inner(first_mirror, second_mirror)
    return (along_first, along_second), (first_mirror, second_mirror)


def orthonormal_completion(first: Tensor, second: Tensor, frame: Tensor, signs: Tensor) -> Tensor:
    r"""Complete two orthonormal directions by further ones, for each row.

    .. math:: u_2, \dots, u_K \quad\text{orthonormal, and orthogonal to } w \text{ and } u_1

    Args:
        first: w, unit vectors, [B, D].
        second: u_1, unit vectors orthogonal to w, [B, D].
        frame: K + 1 orthonormal vectors, [K + 1, D], as by :func:`random_frame`: the draw.
        signs: +1 or -1, [B, D], as by :func:`random_signs`: the draw.

    Returns:
        The K - 1 further directions, [B, K - 1, D].

    Example:
        >>> axes = torch.eye(3)
        >>> orthonormal_completion(axes[:1], axes[1:2], axes, torch.ones(1, 3)).abs()
        tensor([[[0., 0., 1.]]])
    """
    return align(frame[2:], frame[:2], signs, first, second)


def _mirror(a: Tensor, b: Tensor) -> Tensor:
    """Return h, [B, D], so that x - (x h) h carries the unit vectors a to b or -b, what is further.

    The further one avoids cancellation: the sum of a and b, or their difference, is then long.
    """
    mirror = a.addcmul(torch.where(_inner(a, b) < 0, -1.0, 1.0).to(b), b)
    return mirror * (2 / _inner(mirror, mirror)).sqrt()


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner products of rows, [B, 1]."""
    return (a * b).sum(dim=1, keepdim=True)
