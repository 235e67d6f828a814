"""The parts of a run, on the device and in the process where they are used."""

from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks import distributed
from benchmarks.datasets import ImageClasses
from benchmarks.datasets.splits import Splits
from benchmarks.errors import SettingsError
from benchmarks.seeding import MODELS, derived_seed, seed_all
from benchmarks.settings import described
from benchmarks.settings.schema import Half, Run
from benchmarks.training import data_parallel
from benchmarks.training.epochs import Epochs
from benchmarks.training.hooks import RecordingHooks
from benchmarks.training.trainer import Trainer


class Parts:
    """The parts of a run, as they are before its first step.

    Without epochs there is no loss, nothing that trains, and nothing to train on.

    Arguments:
        run: the settings.
        splits: the datasets.

    Raises:
        SettingsError: if something cannot be made as the settings say.
    """

    def __init__(self, run: Run, splits: Splits) -> None:
        self.run = run
        self.device = _device(run.device)
        seed_all(derived_seed(run.seed, MODELS))
        self.models: dict[str, nn.Module] = {
            name: data_parallel.share_batch_statistics(model.to(self.device), self.device)
            for name, model in described.models(run).items()
        }
        # As they are evaluated, the training images (`seen`) too.
        self.seen, self.val, self.test, self.gallery = (
            None
            if images is None
            else described.with_transforms(images, run.transforms.eval, "transforms.eval", run.seed)
            for images in (splits.train, splits.val, splits.test, splits.gallery)
        )
        self.losses: dict[str, nn.Module] = {}
        self.miners: dict[str, nn.Module] = {}
        self.scalers: dict[str, torch.amp.GradScaler] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.schedulers: dict[str, Any] = {}
        self.training: Epochs | None = None
        if run.epochs:
            self._add_what_trains(splits.train)

    def _add_what_trains(self, images: ImageClasses) -> None:
        run = self.run
        losses = described.losses(run, len(images.class_names))
        self.losses = {name: loss.to(self.device) for name, loss in losses.items()}
        self.miners = described.miners(run)
        if run.autocast and run.autocast_dtype is Half.float16:
            self.scalers = {"scaler": torch.amp.GradScaler(self.device.type)}
        self.optimizers = described.optimizers(run, self.models | self.losses)
        self.schedulers = described.schedulers(run, self.optimizers, self.val is not None)
        sampler = described.sampler(run, images)
        rows = distributed.own_part(run.batch_size)
        transforms = run.transforms.train
        transformed = partial(described.with_transforms, images, transforms, "transforms.train")
        self.training = Epochs(transformed, sampler, rows, run.seed)

    def trainer(self, hooks: RecordingHooks | None) -> Trainer:
        """Return PML's trainer of these parts, of a run that trains."""
        return Trainer(
            autocast_dtype=self._autocast_dtype(),
            scaler=self.scalers.get("scaler"),
            clip_gradient_value=self.run.clip_gradient_value,
            freeze_trunk_batchnorm=self.run.model.freeze_batch_norm,
            models=data_parallel.share_models(self.models),
            optimizers=self.optimizers,
            lr_schedulers=self.schedulers,
            batch_size=self.run.batch_size,
            iterations_per_epoch=self.run.iterations_per_epoch,
            loss_funcs=data_parallel.share_losses(self.losses),
            mining_funcs=data_parallel.share_miners(self.miners),
            dataset=self.training.images,
            sampler=self.training.sampler,
            rows=self.training.rows,
            dataloader_num_workers=self.run.data.workers,
            data_device=self.device,
            end_of_iteration_hook=hooks and hooks.end_of_iteration_hook,
        )

    def _autocast_dtype(self) -> torch.dtype | None:
        if not self.run.autocast:
            return None
        return {Half.bfloat16: torch.bfloat16, Half.float16: torch.float16}[self.run.autocast_dtype]


def _device(name: str) -> torch.device:
    try:
        device = distributed.own_device(torch.device(name))
        torch.empty(0, device=device)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"device: {name!r} cannot be used: {reason}") from error
    return device
