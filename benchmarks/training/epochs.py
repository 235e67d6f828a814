"""What a run trains on, epoch by epoch."""

import copy
from functools import partial
from typing import Any

from pytorch_metric_learning.samplers import MPerClassSampler

from benchmarks import distributed
from benchmarks.datasets import ImageClasses
from benchmarks.datasets.batches import SeededSampler
from benchmarks.datasets.transforms import InTurn, reseeded
from benchmarks.errors import SettingsError
from benchmarks.seeding import BATCHES, EPOCHS, TRANSFORMS, derived_seed, seed_all
from benchmarks.settings.objects import build, find
from benchmarks.settings.schema import Run


class Epochs:
    """The images to train on, as they are transformed in an epoch, and how batches are sampled.

    Arguments:
        run: the settings.
        images: as they were read.

    Attributes:
        images: with the transforms of the epoch.
        sampler: decides which images are in the batches of the epoch.
        rows: those of each batch that this process takes.

    Raises:
        SettingsError: if something cannot be made as the settings say.
    """

    def __init__(self, run: Run, images: ImageClasses) -> None:
        self.run = run
        self.untransformed = images
        self.sampler = _sampler(run, images)
        self.rows = distributed.own_part(run.batch_size)
        self.start(0)

    def start(self, epoch: int) -> None:
        """Let all random numbers depend on the seed and the epoch, so that nobody keeps a state."""
        # Each process draws its own: dropout of other rows is other dropout.
        seed_all(derived_seed(self.run.seed, EPOCHS, epoch, distributed.rank()))
        self.sampler.set_epoch(epoch)
        seed = derived_seed(self.run.seed, TRANSFORMS, epoch)
        transforms = self.run.transforms.train
        self.images = with_transforms(self.untransformed, transforms, "transforms.train", seed)


def with_transforms(
    images: ImageClasses, described: list[dict[str, Any]], path: str, seed: int
) -> ImageClasses:
    """Return images with the transforms of the settings, after those that they have."""
    transforms = [
        build(item, f"{path}[{i}]", seed=derived_seed(seed, i)) for i, item in enumerate(described)
    ]
    if images.transform is not None:
        # Else it would draw the same in each epoch, and with each seed.
        transforms.insert(0, reseeded(images.transform, derived_seed(seed, len(described))))
    images = copy.copy(images)
    images.transform = InTurn(transforms) if transforms else None
    return images


def _sampler(run: Run, images: ImageClasses) -> SeededSampler:
    # PML's samplers would draw 100,000 rows in each pass.
    rows = run.batch_size * run.iterations_per_epoch
    _check_room_in_classes(run, len(images.class_names))
    offered = {"labels": images.labels, "batch_size": run.batch_size}
    offered["length_before_new_iter"] = rows
    make_sampler = partial(build, run.sampler, "sampler", data_source=images, **offered)
    try:
        sampler = SeededSampler(make_sampler, derived_seed(run.seed, BATCHES))
    except TypeError as error:  # such as the base class of all samplers
        raise SettingsError(f"sampler: expected one that has a length: {error}.") from error
    if len(sampler) < run.batch_size:
        raise SettingsError(
            f"batch_size: {run.batch_size} are more images than the {len(sampler)} that the "
            "sampler gives."
        )
    return sampler


def _check_room_in_classes(run: Run, num_classes: int) -> None:
    """Raise a SettingsError where PML's MPerClassSampler would have an assertion about it."""
    ((name, given),) = run.sampler.items()
    given = given or {}
    m = given.get("m")
    if find(name) is not MPerClassSampler or "batch_size" in given or not isinstance(m, int):
        return
    if m < 1:
        raise SettingsError(f"sampler.{name}.m: expected at least 1 but got {m}.")
    if run.batch_size > (most := m * num_classes):
        raise SettingsError(
            f"batch_size: {run.batch_size} are more images than m = {m} of each of the "
            f"{num_classes} training classes. Set batch_size to at most {most}, sampler.{name}.m "
            "higher, or train on more classes."
        )
