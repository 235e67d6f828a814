"""Batches that the seed and the epoch alone decide."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from pytorch_metric_learning.utils import common_functions as c_f
from torch.utils.data import BatchSampler, DataLoader, Sampler

from benchmarks.datasets.image_classes import ImageClasses
from benchmarks.datasets.loading import BatchesByPlace, loader
from benchmarks.seeding import derived_seed


class SeededSampler(Sampler[int]):
    """A sampler of torch or PML with random numbers of its own.

    They draw from the global generators of torch and NumPy, so that their batches depend on who
    else draws. Here each pass draws from (seed, epoch, number of the pass in the epoch): runs of
    different losses see the same batches, and a resumed run those that it had not seen.

    Arguments:
        make_sampler: returns a finite sampler of indices, a new one for each pass, since some of
            PML's samplers are not as they were after a pass.
        seed: a non-negative integer.

    Example:
        >>> from torch.utils.data import RandomSampler
        >>> make = lambda: RandomSampler(range(100))
        >>> one, other = SeededSampler(make, seed=1), SeededSampler(make, seed=1)
        >>> list(one) == list(other), list(one) == list(one)
        (True, False)
    """

    def __init__(self, make_sampler: Callable[[], Sampler[int]], seed: int) -> None:
        self.make_sampler = make_sampler
        self.length = len(make_sampler())
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Start an epoch."""
        self.epoch = epoch
        self.passes = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        key = (self.seed, self.epoch, self.passes)
        self.passes += 1
        shared = c_f.NUMPY_RANDOM
        c_f.NUMPY_RANDOM = np.random.RandomState(derived_seed(*key, 0))
        try:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(derived_seed(*key, 1))
                return iter(list(self.make_sampler()))
        finally:
            c_f.NUMPY_RANDOM = shared


class PartOfBatches(Sampler[tuple[int, list[int]]]):
    """Some of the samples of each batch, and the place of the first of them in the epoch.

    Arguments:
        batches: gives the samples of all of a batch.
        rows: which of them are kept, the same of every batch.

    Example:
        >>> batches = BatchSampler(range(8), batch_size=4, drop_last=True)
        >>> list(PartOfBatches(batches, slice(2, 4)))
        [(2, [2, 3]), (6, [6, 7])]
    """

    def __init__(self, batches: BatchSampler, rows: slice) -> None:
        self.batches = batches
        self.rows = rows
        self.place = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        for batch in self.batches:
            yield self.place + self.rows.start, batch[self.rows]
            # An epoch may be several passes.
            self.place += len(batch)


def batches_of(
    images: ImageClasses,
    sampler: SeededSampler,
    batch_size: int,
    rows: slice,
    workers: int,
    pin_memory: bool,
) -> DataLoader:
    """Return a loader of some of the samples of each batch.

    Arguments:
        images: the dataset.
        sampler: decides what is in the batches.
        batch_size: the size of all of a batch.
        rows: those that are read.
        workers: how many processes read ahead; with 0 a batch is read when it is its turn.
        pin_memory: whether the batches are made for fast copies to a CUDA device.
    """
    batches = PartOfBatches(BatchSampler(sampler, batch_size, drop_last=True), rows)
    seed = derived_seed(sampler.seed, sampler.epoch)
    return loader(BatchesByPlace(images, seed), batches, workers, pin_memory)
