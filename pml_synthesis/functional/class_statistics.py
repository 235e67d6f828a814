"""Means and diagonal variances of classes, from few or many embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import finest_dtype

_PART = 2**22  # numbers that are computed with at once, 32 MiB in double precision


def class_moments(
    embeddings: Tensor, classes: Tensor, counts: Tensor, order: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Return the mean and the variance of each class, dimension by dimension.

    .. math::
        m_c = \frac{1}{n_c} \sum_{y_i = c} z_i, \qquad
        v_c = \frac{1}{n_c} \sum_{y_i = c} (z_i - m_c)^2

    Args:
        embeddings: [N, D], only their values are used.
        classes: int64, [N], from 0 to C - 1.
        counts: the number of embeddings of each class, at least 1, [C].
        order: in which the embeddings are added up, int64, [N].

    Returns:
        Means and variances in double precision, [C, D].

    Example:
        >>> two = torch.tensor([0, 1])
        >>> class_moments(torch.tensor([[1.0], [5.0]]), two * 0, torch.tensor([2]), order=two)
        (tensor([[3.]], dtype=torch.float64), tensor([[4.]], dtype=torch.float64))
    """
    dtype, dim = finest_dtype(embeddings.device), embeddings.shape[1]
    counts = counts.to(embeddings.device, dtype).unsqueeze(1)
    parts = order.split(max(1, _PART // max(dim, 1)))
    mean, variance = torch.zeros(2, len(counts), dim, dtype=dtype, device=embeddings.device)
    for part in parts:
        mean.index_add_(0, classes[part], embeddings[part].detach().to(dtype))
    mean /= counts
    for part in parts:
        distances = embeddings[part].detach().to(dtype) - mean[classes[part]]
        variance.index_add_(0, classes[part], distances.square())
    return mean, variance / counts


def merged_moments(
    old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], weight: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Return mean and variance of a mixture of two distributions.

    .. math::
        m = (1 - w) m_1 + w m_2, \qquad
        v = (1 - w) v_1 + w v_2 + w (1 - w) (m_1 - m_2)^2

    Args:
        old: mean and variance, [C, D].
        new: likewise.
        weight: w, of the new one, [C, 1].

    Returns:
        Mean and variance, [C, D].

    Example:
        >>> point = torch.zeros(1, 1)
        >>> merged_moments((point, point), (point + 2, point), torch.tensor([[0.5]]))
        (tensor([[1.]]), tensor([[1.]]))
    """
    (old_mean, old_variance), (new_mean, new_variance) = old, new
    between = weight * (1 - weight) * (old_mean - new_mean).square()
    variance = (1 - weight) * old_variance + weight * new_variance + between
    return (1 - weight) * old_mean + weight * new_mean, variance


def neighbor_correction(
    mean: Tensor, variance: Tensor, counts: Tensor, num_neighbors: int
) -> Tensor:
    r"""Correct the variances of classes of few embeddings by those of similar classes.

    .. math::
        v'_c = (1 - a_c) v_c + a_c \Big[ (1 - g) \frac{\sum_i w_i v_i}{\sum_i w_i}
        + g \frac{\sum_i n_i v_i}{\sum_i n_i} \Big], \qquad
        w_i = n_i \exp \Big( - \frac{\lVert m_i^2 - m_c^2 \rVert^2}{2}
        - \frac{\lVert v_i - v_c \rVert^2}{2} \Big)

    with the first sums over the classes that are nearest to c by :math:`\lVert m_i^2 - m_c^2
    \rVert`, the other ones over all classes, g = 0.1, and :math:`a_c = 1 / (1 + \log (1 + 0.1 (n_c
    - 1)))` for :math:`n_c \le 40`, else 0. A class of one embedding has no variance: it is
    corrected, and takes part in no sum. Where c has no neighbour, the second mean stands for the
    first; where there is none either, nothing is corrected.

    Args:
        mean: m, in double precision, [C, D].
        variance: v, [C, D].
        counts: n, on the host, [C].
        num_neighbors: how many nearest classes are taken, if there are as many.

    Returns:
        The corrected variances, [C, D].

    Example:
        >>> mean, variance = torch.zeros(3, 1), torch.tensor([[0.0], [1.0], [1.0]])
        >>> neighbor_correction(mean, variance, torch.tensor([1, 50, 50]), 25)
        tensor([[1.],
                [1.],
                [1.]])
    """
    many, device = counts > 1, mean.device
    if not many.any():
        return variance
    host_counts, counts = counts, counts.to(mean)
    several = many.to(device)
    shares = counts * several
    everywhere = shares @ variance / shares.sum()
    alpha = 1 / (1 + torch.log1p(0.1 * (counts - 1)))

    squares, corrected = mean.square(), variance.clone()
    taken = min(num_neighbors, int(many.sum()))
    size = max(1, _PART // max(len(mean), taken * mean.shape[1]))
    for few in (host_counts <= 40).nonzero().squeeze(1).to(device).split(size):
        distances = torch.cdist(squares[few], squares).masked_fill_(~several, torch.inf)
        distances.scatter_(1, few.unsqueeze(1), torch.inf)
        nearest, index = distances.topk(taken, largest=False)
        near = variance[index]
        between = (near - variance[few].unsqueeze(1)).square().sum(dim=2)
        # The weights as exponents: a distance of 40 makes them vanish in double precision.
        exponents = counts[index].log() - (nearest.square() + between) / 2
        of_neighbors = (exponents.softmax(dim=1).unsqueeze(1) @ near).squeeze(1)
        alone = nearest[:, :1].isinf()
        towards = 0.9 * torch.where(alone, everywhere, of_neighbors) + 0.1 * everywhere
        corrected[few] = variance[few].lerp(towards, alpha[few].unsqueeze(1))
    return corrected
