"""The objects that the settings of a run describe, and whether they fit their places."""

import copy
import inspect
from dataclasses import fields
from functools import partial
from typing import Any

from pytorch_metric_learning.distances import BaseDistance
from pytorch_metric_learning.reducers import BaseReducer
from pytorch_metric_learning.regularizers import BaseRegularizer
from pytorch_metric_learning.samplers import MPerClassSampler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from benchmarks.datasets import ImageClasses
from benchmarks.datasets.batches import SeededSampler
from benchmarks.datasets.joining import joined
from benchmarks.datasets.splits import Splits
from benchmarks.datasets.transforms import InTurn, reseeded
from benchmarks.datasets.unreadable import UnreadableImagesError
from benchmarks.errors import SettingsError, expect
from benchmarks.seeding import BATCHES, derived_seed
from benchmarks.settings.objects import build, find
from benchmarks.settings.schema import Data, Run
from pml_synthesis import BaseAugmenter

# Modules of PML that are called like losses, with other things.
NO_LOSSES_OR_MINERS = (BaseReducer, BaseDistance, BaseRegularizer, BaseAugmenter)


def load_splits(data: Data) -> Splits:
    """Read the datasets.

    Raises:
        SettingsError: if one cannot be made, or images of any of them cannot be read.
    """
    splits = _read_all(data)
    if not data.all_classes:
        return splits
    try:
        return Splits(joined(list(splits.given().values())), None, None)
    except ValueError as error:
        raise SettingsError(f"data: {error}") from error


def _read_all(data: Data) -> Splits:
    """Read each split, although images of another one cannot be read: all are told at once."""
    there: dict[str, ImageClasses | None] = {}
    unreadable: dict[str, UnreadableImagesError] = {}
    for split in fields(Splits):
        path = f"data.{split.name}"
        try:
            there[split.name] = build(getattr(data, split.name), path)
        except SettingsError as error:
            if not isinstance(error.__cause__, UnreadableImagesError):
                raise
            unreadable[path] = error.__cause__
    if unreadable:
        reasons = [reason for error in unreadable.values() for reason in error.reasons]
        read = sum(len(images) for images in there.values() if images is not None)
        images = read + sum(error.images for error in unreadable.values())
        raise SettingsError(f"{', '.join(unreadable)}: {UnreadableImagesError(reasons, images)}")
    return Splits(**there)


def with_transforms(
    images: ImageClasses, described: list[dict[str, Any]], path: str, seed: int
) -> ImageClasses:
    """Return images with the transforms of the settings, after those that they have."""
    # As it is, it would draw the same in each epoch, and with each seed.
    own = [] if images.transform is None else [reseeded(images.transform, seed, len(described))]
    added = [
        build(item, f"{path}[{i}]", seed=derived_seed(seed, i)) for i, item in enumerate(described)
    ]
    images = copy.copy(images)
    images.transform = InTurn([*own, *added]) if own or added else None
    return images


def models(run: Run) -> dict[str, nn.Module]:
    """Return the trunk, and the embedder if there is one."""
    described = {"trunk": run.model.trunk, "embedder": run.model.embedder}
    return {
        name: build(model, f"model.{name}", embedding_size=run.embedding_size)
        for name, model in described.items()
        if model is not None
    }


def losses(run: Run, num_classes: int) -> dict[str, nn.Module]:
    """Return the loss, for so many classes."""
    loss = build(
        run.loss,
        "loss",
        collect_stats=True,
        embedding_size=run.embedding_size,
        num_classes=num_classes,
        num_steps=run.epochs * run.iterations_per_epoch,
    )
    _check_takes("loss", loss, ("embeddings", "labels", "indices_tuple"))
    return {"metric_loss": loss}


def miners(run: Run) -> dict[str, nn.Module]:
    """Return the miner, if there is one."""
    if run.miner is None:
        return {}
    miner = build(run.miner, "miner")
    _check_takes("miner", miner, ("embeddings", "labels"))
    return {"tuple_miner": miner}


def optimizers(run: Run, modules: dict[str, nn.Module]) -> dict[str, Optimizer]:
    """Return the optimisers of the models and the loss, as far as they have parameters."""
    made = {}
    for name, parameters in _learning(modules).items():
        described = getattr(run.optimizers, name)
        if described is None:
            raise SettingsError(f"optimizers.{name} is needed, for the parameters of it.")
        made[f"{name}_optimizer"] = build(described, f"optimizers.{name}", params=parameters)
    return made


def schedulers(run: Run, stepping: dict[str, Optimizer], validates: bool) -> dict[str, Any]:
    """Return the schedulers of the learning rates of optimisers, where the settings have some."""
    by = run.schedulers.by.value
    steps = run.epochs * (run.iterations_per_epoch if by == "iteration" else 1)
    made = {}
    for key, optimizer in stepping.items():
        name = key.removesuffix("_optimizer")
        if described := getattr(run.schedulers, name):
            path = f"schedulers.{name}"
            scheduler = build(described, path, optimizer=optimizer, T_max=steps)
            _check_steps(scheduler, by, validates)
            made[f"{name}_scheduler_by_{by}"] = scheduler
    return made


def sampler(run: Run, images: ImageClasses) -> SeededSampler:
    """Return what decides which images are in the batches of an epoch."""
    _check_room_in_classes(run, len(images.class_names))
    make_sampler = partial(
        build,
        run.sampler,
        "sampler",
        data_source=images,
        labels=images.labels,
        batch_size=run.batch_size,
        # PML's samplers would draw 100,000 rows in each pass.
        length_before_new_iter=run.batch_size * run.iterations_per_epoch,
    )
    try:
        seeded = SeededSampler(make_sampler, derived_seed(run.seed, BATCHES))
    except TypeError as error:  # such as the base class of all samplers
        raise SettingsError(f"sampler: expected one that has a length: {error}.") from error
    if len(seeded) < run.batch_size:
        raise SettingsError(
            f"batch_size: {run.batch_size} are more images than the {len(seeded)} that the "
            "sampler gives."
        )
    return seeded


def _learning(modules: dict[str, nn.Module]) -> dict[str, list[nn.Parameter]]:
    """Return the parameters that each optimiser trains; augmenters have one of their own."""
    inside = modules["metric_loss"].modules()
    augmenters = nn.ModuleList(module for module in inside if isinstance(module, BaseAugmenter))
    of_augmenters = set(augmenters.parameters())
    learning = {
        name: [p for p in module.parameters() if p not in of_augmenters]
        for name, module in modules.items()
    }
    learning["augmenter"] = list(augmenters.parameters())
    return {name: parameters for name, parameters in learning.items() if parameters}


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


def _check_steps(scheduler: LRScheduler, by: str, validates: bool) -> None:
    """Raise a SettingsError for steps that the scheduler cannot take, or never would."""
    kind = type(scheduler).__name__
    if isinstance(scheduler, ReduceLROnPlateau) != (by == "plateau"):
        expected = "iteration or epoch" if by == "plateau" else "plateau"
        raise SettingsError(f"schedulers.by: expected {expected} for {kind} but got {by}.")
    if by == "plateau" and not validates:
        raise SettingsError(
            f"schedulers.by: plateau is that of MAP@R on validation classes, so {kind} would "
            "never step: give data.val, or another scheduler."
        )


def _check_room_in_classes(run: Run, num_classes: int) -> None:
    """Raise a SettingsError where PML's MPerClassSampler would have an assertion about it."""
    ((name, given),) = run.sampler.items()
    given = given or {}
    m = given.get("m")
    if find(name) is not MPerClassSampler or "batch_size" in given or not isinstance(m, int):
        return
    expect(m >= 1, f"sampler.{name}.m", "at least 1", m)
    if run.batch_size > (most := m * num_classes):
        raise SettingsError(
            f"batch_size: {run.batch_size} are more images than m = {m} of each of the "
            f"{num_classes} training classes. Set batch_size to at most {most}, sampler.{name}.m "
            "higher, or train on more classes."
        )
