"""PML's trainer, and what the runner needs beyond it."""

from contextlib import nullcontext
from typing import Any

import torch
from pytorch_metric_learning.trainers import MetricLossOnly
from torch import Tensor, nn

from benchmarks.datasets.batches import batches_of
from benchmarks.training.timing import StepClock


class Trainer(MetricLossOnly):
    """PML's trainer, with batches that are read ahead, steps that are timed and, if wanted, models
    in half precision and clipped gradients.

    The loss stays in float32: under autocast PML's losses would turn their proxies to half
    precision for good.

    Arguments:
        autocast_dtype: in which the models compute, or None.
        scaler: of the loss, for half precision, or None.
        clip_gradient_value: the largest size of each component of the gradients, or None.
        rows: those of each batch that this process takes.
        arguments: those of PML's trainer.
    """

    def __init__(
        self,
        autocast_dtype: torch.dtype | None,
        scaler: torch.amp.GradScaler | None,
        clip_gradient_value: float | None,
        rows: slice,
        **arguments: Any,
    ) -> None:
        self.autocast_dtype = autocast_dtype
        self.scaler = scaler or torch.amp.GradScaler(enabled=False)
        self.clip_gradient_value = clip_gradient_value
        self.rows = rows
        super().__init__(**arguments)
        self.clock = StepClock(self.data_device)

    def modify_schema(self) -> None:
        """Let augmenters with parameters have an optimiser and a scheduler of their own."""
        for name, suffixes in (
            ("optimizers", ["_optimizer"]),
            ("lr_schedulers", list(self.allowed_lr_scheduler_key_suffixes.values())),
        ):
            of_others = self.schema[name].keys
            known = of_others(self.schema[name], self.schema.children)
            self.schema[name].keys = [*known, *(f"augmenter{suffix}" for suffix in suffixes)]

    def train(self, start_epoch: int = 1, num_epochs: int = 1) -> None:
        """Train from one epoch to another, after which nobody reads ahead any more."""
        super().train(start_epoch, num_epochs)
        # The trainer is part of a cycle: processes would end with it, at some time, and slowly.
        self.dataloader_iter = None

    def initialize_dataloader(self) -> None:
        """Start to read batches; PML's own has no pinned memory, and all rows in each process."""
        self.dataloader = batches_of(
            self.dataset,
            self.sampler,
            self.batch_size,
            self.rows,
            workers=self.dataloader_num_workers,
            pin_memory=self.data_device.type == "cuda",
        )
        self.dataloader_iter = iter(self.dataloader)

    def forward_and_backward(self) -> None:
        """Take a step."""
        self.clock.start_step()
        super().forward_and_backward()
        self.clock.end_part("optimizers")

    def get_batch(self) -> tuple[Tensor, Tensor]:
        """Images and labels, on their way to the device."""
        images, labels = super().get_batch()
        images = images.to(self.data_device, non_blocking=True)
        labels = labels.to(self.data_device, non_blocking=True)
        self.clock.end_part("data")
        return images, labels

    def compute_embeddings(self, data: Tensor) -> Tensor:
        """Embeddings of a batch of images, of no half precision."""
        device, dtype = self.data_device.type, self.autocast_dtype
        with torch.autocast(device, dtype) if dtype else nullcontext():
            embeddings = super().compute_embeddings(data)
        if dtype:
            embeddings = embeddings.float()
        self.clock.end_part("models")
        if embeddings.requires_grad:
            # Miner, loss and its gradients come between here and the models' gradients.
            embeddings.register_hook(lambda gradient: self.clock.end_part("loss"))
        return embeddings

    def backward(self) -> None:
        """Compute gradients, large enough for half precision."""
        self.scaler.scale(self.losses["total_loss"]).backward()
        self.clock.end_part("models")

    def clip_gradients(self) -> None:
        """Clip each component of the gradients, at their true scale."""
        if self.clip_gradient_value is None:
            return
        for optimizer in self.optimizers.values():
            self.scaler.unscale_(optimizer)
        for module in (*self.models.values(), *self.loss_funcs.values()):
            nn.utils.clip_grad_value_(module.parameters(), self.clip_gradient_value)

    def step_optimizers(self) -> None:
        """Take a step, unless the gradients overflowed."""
        for optimizer in self.optimizers.values():
            self.scaler.step(optimizer)
        self.scaler.update()
