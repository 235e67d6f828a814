"""Whether the proxies of a loss learn."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pml_synthesis.losses import proxies_of


@contextmanager
def expect_moving_proxies(loss: nn.Module) -> Iterator[None]:
    """Warn if the proxies of a loss, where it has some, are the same after some steps as before."""
    before = _proxies(loss)
    yield
    if before is not None and torch.equal(before, _proxies(loss)):
        warnings.warn(
            f"The proxies of {type(loss).__name__} did not move in the first epoch: no optimiser "
            "has them, or its learning rate is 0 (optimizers.metric_loss, schedulers.metric_loss). "
            "Proxies that stand still teach the network to imitate random directions.",
            stacklevel=3,
        )


def _proxies(loss: nn.Module) -> Tensor | None:
    try:
        return proxies_of(loss).detach().clone()
    except ValueError:
        return None
