"""How proxies start."""

import torch
from torch import Tensor, nn

from pml_synthesis._checks import expect


class UnitProxies:
    """Random directions of length 1: a `weight_init_func` for PML's proxy losses.

    By default the proxies of some losses start at length sqrt(D), where the same learning rate
    turns them sqrt(D) times less.

    Arguments:
        dim: where the components of a proxy lie: 1 for weights [C, D], 0 for weights [D, C].

    Example:
        >>> from pytorch_metric_learning.losses import NormalizedSoftmaxLoss
        >>> loss = NormalizedSoftmaxLoss(10, 64, weight_init_func=UnitProxies(dim=0))
        >>> loss.W.norm(dim=0).allclose(torch.ones(10))
        True
    """

    def __init__(self, dim: int) -> None:
        self.dim = _checked(dim)

    @torch.no_grad()
    def __call__(self, weight: Tensor) -> None:
        """Fill a weight in place."""
        weight.copy_(nn.functional.normalize(torch.randn_like(weight), dim=self.dim))


class LinearProxies:
    """As torch.nn.Linear starts: uniform in [-1 / sqrt(D), 1 / sqrt(D)], of length 0.58 or so.

    So do those of the released code of Proxy Synthesis; how long proxies are decides how
    far a learning rate turns them. A `weight_init_func` for PML's proxy losses.

    Arguments:
        dim: where the components of a proxy lie: 1 for weights [C, D], 0 for weights [D, C].

    Example:
        >>> from pytorch_metric_learning.losses import ProxyNCALoss
        >>> loss = ProxyNCALoss(10, 64, weight_init_func=LinearProxies(dim=1))
        >>> (loss.proxies.abs() <= 1 / 8).all()
        tensor(True)
    """

    def __init__(self, dim: int) -> None:
        self.dim = _checked(dim)

    @torch.no_grad()
    def __call__(self, weight: Tensor) -> None:
        """Fill a weight in place."""
        bound = weight.shape[self.dim] ** -0.5
        weight.uniform_(-bound, bound)


def _checked(dim: int) -> int:
    expect(dim in (0, 1), "dim", "0 or 1", dim)
    return dim
