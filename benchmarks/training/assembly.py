"""From settings to the parts of a run: datasets, models, loss, optimisers, trainer."""

import inspect
from typing import Any

import torch
from pytorch_metric_learning.distances import BaseDistance
from pytorch_metric_learning.reducers import BaseReducer
from pytorch_metric_learning.regularizers import BaseRegularizer
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from benchmarks import distributed
from benchmarks.datasets import ImageClasses
from benchmarks.datasets.joining import joined
from benchmarks.datasets.splits import Splits
from benchmarks.errors import SettingsError
from benchmarks.seeding import MODELS, derived_seed, seed_all
from benchmarks.settings.objects import build
from benchmarks.settings.schema import Data, Half, Run
from benchmarks.training import data_parallel
from benchmarks.training.epochs import Epochs, with_transforms
from benchmarks.training.hooks import RecordingHooks
from benchmarks.training.trainer import Trainer
from pml_synthesis import BaseAugmenter

# Modules of PML that are called like losses, with other things.
NO_LOSSES_OR_MINERS = (BaseReducer, BaseDistance, BaseRegularizer, BaseAugmenter)


def load_splits(data: Data) -> Splits:
    """Read the datasets of the settings."""
    splits = Splits(
        build(data.train, "data.train"),
        build(data.val, "data.val"),
        build(data.test, "data.test"),
        build(data.gallery, "data.gallery"),
    )
    if not data.all_classes:
        return splits
    try:
        return Splits(joined(list(splits.given().values())), None, None)
    except ValueError as error:
        raise SettingsError(f"data: {error}") from error


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
        offered = {"embedding_size": run.embedding_size}
        described = {"trunk": run.model.trunk, "embedder": run.model.embedder}
        self.models: dict[str, nn.Module] = {
            name: self._model(build(model, f"model.{name}", **offered))
            for name, model in described.items()
            if model is not None
        }
        # As they are evaluated, the training images (`seen`) too.
        self.seen, self.val, self.test, self.gallery = (
            None
            if images is None
            else with_transforms(images, run.transforms.eval, "transforms.eval", run.seed)
            for images in (splits.train, splits.val, splits.test, splits.gallery)
        )
        self.losses: dict[str, nn.Module] = {}
        self.miners: dict[str, nn.Module] = {}
        self.scalers: dict[str, torch.amp.GradScaler] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.schedulers: dict[str, Any] = {}
        self.training: Epochs | None = None
        if run.epochs:
            self._add_what_trains(splits.train, offered)

    def _add_what_trains(self, images: ImageClasses, offered: dict[str, Any]) -> None:
        run = self.run
        num_steps = run.epochs * run.iterations_per_epoch
        offered = offered | {"num_classes": len(images.class_names), "num_steps": num_steps}
        loss = build(run.loss, "loss", collect_stats=True, **offered)
        _check_takes("loss", loss, ("embeddings", "labels", "indices_tuple"))
        self.losses = {"metric_loss": loss.to(self.device)}
        if run.miner is not None:
            self.miners = {"tuple_miner": build(run.miner, "miner")}
            _check_takes("miner", self.miners["tuple_miner"], ("embeddings", "labels"))
        if run.autocast and run.autocast_dtype is Half.float16:
            self.scalers = {"scaler": torch.amp.GradScaler(self.device.type)}
        self.optimizers = self._optimizers()
        self.schedulers = self._schedulers(num_steps)
        self.training = Epochs(run, images)

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

    def _model(self, model: nn.Module) -> nn.Module:
        return data_parallel.share_batch_statistics(model.to(self.device), self.device)

    def _autocast_dtype(self) -> torch.dtype | None:
        if not self.run.autocast:
            return None
        return {Half.bfloat16: torch.bfloat16, Half.float16: torch.float16}[self.run.autocast_dtype]

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        optimizers = {}
        of_augmenters = _parameters_of_augmenters(self.losses["metric_loss"])
        learning = {name: list(part.parameters()) for name, part in self.models.items()}
        of_loss = self.losses["metric_loss"].parameters()
        learning["metric_loss"] = [p for p in of_loss if id(p) not in of_augmenters]
        learning["augmenter"] = list(of_augmenters.values())
        for name, parameters in learning.items():
            if parameters:
                described = getattr(self.run.optimizers, name)
                if described is None:
                    raise SettingsError(f"optimizers.{name} is needed, for the parameters of it.")
                path = f"optimizers.{name}"
                optimizers[f"{name}_optimizer"] = build(described, path, params=parameters)
        return optimizers

    def _schedulers(self, num_steps: int) -> dict[str, Any]:
        by = self.run.schedulers.by.value
        steps = num_steps if by == "iteration" else self.run.epochs
        schedulers: dict[str, Any] = {}
        for key, optimizer in self.optimizers.items():
            name = key.removesuffix("_optimizer")
            if described := getattr(self.run.schedulers, name):
                path = f"schedulers.{name}"
                scheduler = build(described, path, optimizer=optimizer, T_max=steps)
                self._check_steps(scheduler, by)
                schedulers[f"{name}_scheduler_by_{by}"] = scheduler
        return schedulers

    def _check_steps(self, scheduler: LRScheduler, by: str) -> None:
        """Raise a SettingsError for steps that the scheduler cannot take, or never would."""
        kind = type(scheduler).__name__
        if isinstance(scheduler, ReduceLROnPlateau) != (by == "plateau"):
            expected = "iteration or epoch" if by == "plateau" else "plateau"
            raise SettingsError(f"schedulers.by: expected {expected} for {kind} but got {by}.")
        if by == "plateau" and self.val is None:
            raise SettingsError(
                f"schedulers.by: plateau is that of MAP@R on validation classes, so {kind} would "
                "never step: give data.val, or another scheduler."
            )


def _check_takes(place: str, module: nn.Module, given: tuple[str, ...]) -> None:
    """Raise a SettingsError for a module that is not called like a loss, or a miner."""
    kind = type(module).__name__
    if isinstance(module, NO_LOSSES_OR_MINERS):
        raise SettingsError(f"{place}: expected a {place} of embeddings but got {kind}.")
    try:
        inspect.signature(module.forward).bind(*given)
    except TypeError as error:
        raise SettingsError(
            f"{place}: expected a module that takes {', '.join(given)}, as those of "
            f"pytorch_metric_learning do, but got {kind}."
        ) from error


def _parameters_of_augmenters(loss: nn.Module) -> dict[int, nn.Parameter]:
    """Return the parameters of the augmenters inside of a loss, by their ids."""
    augmenters = (module for module in loss.modules() if isinstance(module, BaseAugmenter))
    return {id(p): p for augmenter in augmenters for p in augmenter.parameters()}


def _device(name: str) -> torch.device:
    try:
        device = distributed.own_device(torch.device(name))
        torch.empty(0, device=device)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"device: {name!r} cannot be used: {reason}") from error
    return device
