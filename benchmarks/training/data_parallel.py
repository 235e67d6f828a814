"""Training steps of several processes, each with its part of the batch, as one would take them."""

from collections.abc import Iterable
from typing import Any

import torch
from pytorch_metric_learning.utils.distributed import (
    DistributedLossWrapper,
    DistributedMinerWrapper,
)
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.distributed import world_size


def share_models(models: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Return models of which each process has the gradients of the whole batch.

    The models that are given keep their parameters, and go on to be those that are saved.
    """
    return {name: _share(model) for name, model in models.items()}


def share_losses(losses: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Return losses of the rows of all processes."""
    if world_size() == 1:
        return dict(losses)
    return {name: _share(LossOfAllRows(loss)) for name, loss in losses.items()}


def share_miners(miners: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Return miners of the rows of all processes."""
    if world_size() == 1:
        return dict(miners)
    return {name: DistributedMinerWrapper(miner) for name, miner in miners.items()}


class LossOfAllRows(nn.Module):
    """A loss of the rows of all processes, with its value and gradients as in one process.

    PML's wrapper multiplies the loss by the number of processes, because
    DistributedDataParallel averages gradients. That is right for the models, whose gradients come
    from the rows of each process alone, but each has the whole gradient of the loss's own
    parameters. So here the value is divided again, and only the gradient of the embeddings
    multiplied.

    Arguments:
        loss: one of PML's, or one that extends them.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = DistributedLossWrapper(loss)

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: Any = None) -> Tensor:
        """The loss of the embeddings of all processes, given this one's part, [B / processes, D].

        The tuples that a miner found are numbered as PML's wrapper of miners does: own rows first.
        """
        if embeddings.requires_grad:
            embeddings = embeddings.view_as(embeddings)  # the caller's tensor keeps its gradient
            embeddings.register_hook(lambda gradient: world_size() * gradient)
        return self.loss(embeddings, labels, indices_tuple) / world_size()


def share_batch_statistics(model: nn.Module, device: torch.device) -> nn.Module:
    """Let batch norms count the rows of all processes, which torch can on accelerators alone.

    Subclasses of torch's batch norms keep to the rows of each process: what else they do is not
    known here.
    """
    if world_size() == 1 or device.type == "cpu":
        return model
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if type(model) in plain:
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) in plain:
                setattr(module, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
    return model


def take_buffers_of_rank_0(models: Iterable[nn.Module]) -> None:
    """Give all processes the running statistics of rank 0, which are those that are saved."""
    if world_size() > 1:
        for model in models:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, src=0)


def _share(module: nn.Module) -> nn.Module:
    learns = any(parameter.requires_grad for parameter in module.parameters())
    return DistributedDataParallel(module) if world_size() > 1 and learns else module
