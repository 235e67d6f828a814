"""Loaders whose batches do not depend on the processes that read them."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from benchmarks.datasets.image_classes import ImageClasses
from benchmarks.datasets.transforms import batch_at
from benchmarks.processes import cores, end_with_parent, start_method
from benchmarks.seeding import derived_seed, seeded_apart


class BatchesByPlace(Dataset[list[Tensor]]):
    """Batches of images, the same in whichever process and order they are read.

    An index is the place of the batch in the epoch and the indices of its images. Random
    transforms draw by the seed and the place, those of other libraries from the shared generators.

    Arguments:
        images: the dataset.
        seed: of what is drawn from the shared generators.
    """

    def __init__(self, images: ImageClasses | Subset, seed: int) -> None:
        self.images = images
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: tuple[int, list[int]]) -> list[Tensor]:
        place, chosen = index
        with batch_at(place), seeded_apart(derived_seed(self.seed, place)):
            return default_collate(self.images.__getitems__(chosen))


def loader(
    dataset: BatchesByPlace,
    batches: Iterable[tuple[int, list[int]]],
    workers: int,
    pin_memory: bool,
) -> DataLoader:
    """Return a loader whose worker processes draw what the main process would, and end with it.

    Arguments:
        dataset: reads the batches.
        batches: the indices of the dataset, in turn.
        workers: how many processes read ahead, at most one for each core; with 0 a batch is read
            when it is its turn.
        pin_memory: whether the batches are made for fast copies to a CUDA device.
    """
    workers = min(workers, cores())
    return DataLoader(
        dataset,
        sampler=batches,
        batch_size=None,  # It is in the indices.
        num_workers=workers,
        pin_memory=pin_memory,
        multiprocessing_context=start_method(__name__) if workers else None,
        worker_init_fn=end_with_parent,
        generator=torch.Generator().manual_seed(dataset.seed),
    )


def in_order(images: Subset, batch_size: int, workers: int) -> DataLoader:
    """Return a loader of part of a dataset; random transforms draw the same in each pass.

    Arguments:
        images: the part, whose places are those in the dataset.
        batch_size: the size of the batches, except the last one.
        workers: how many processes read ahead.
    """
    starts = range(0, len(images), batch_size)
    every = range(len(images))
    batches = [(images.indices[i], list(every[i : i + batch_size])) for i in starts]
    return loader(BatchesByPlace(images, seed=0), batches, workers, pin_memory=False)
