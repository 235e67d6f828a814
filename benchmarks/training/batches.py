"""Batches, and random numbers that the seed and the epoch alone decide."""

import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from pytorch_metric_learning.utils import common_functions as c_f
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler


def derived_seed(*key: int) -> int:
    """Return a seed that depends on all of the key, neighbouring keys giving unlike seeds.

    Example:
        >>> derived_seed(0, 1) == derived_seed(0, 1), derived_seed(0, 1) == derived_seed(0, 2)
        (True, False)
    """
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def seed_all(seed: int) -> None:
    """Seed the generators that everybody shares: of torch, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


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
                torch.manual_seed(derived_seed(*key, 1))
                return iter(list(self.make_sampler()))
        finally:
            c_f.NUMPY_RANDOM = shared


class PartOfBatches(Sampler[list[int]]):
    """Some of the rows of each batch, the same places of every batch.

    Arguments:
        batches: gives the rows of all of a batch.
        rows: the places that are kept.

    Example:
        >>> batches = BatchSampler(range(8), batch_size=4, drop_last=True)
        >>> list(PartOfBatches(batches, slice(2, 4)))
        [[2, 3], [6, 7]]
    """

    def __init__(self, batches: BatchSampler, rows: slice) -> None:
        self.batches = batches
        self.rows = rows

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return (batch[self.rows] for batch in self.batches)


def batches_of(
    images: Dataset,
    sampler: SeededSampler,
    batch_size: int,
    rows: slice,
    workers: int,
    pin_memory: bool,
) -> DataLoader:
    """Return a loader of some of the rows of each batch.

    Arguments:
        images: the dataset.
        sampler: decides what is in the batches.
        batch_size: the size of all of a batch.
        rows: those that are read.
        workers: how many processes read ahead; with 0 a batch is read when it is its turn.
        pin_memory: whether the batches are made for fast copies to a CUDA device.
    """
    # The seed of the workers, by which transforms draw there: the same whoever else draws.
    generator = torch.Generator().manual_seed(derived_seed(sampler.seed, sampler.epoch))
    batches = BatchSampler(sampler, batch_size, drop_last=True)
    return DataLoader(
        images,
        batch_sampler=PartOfBatches(batches, rows),
        num_workers=workers,
        pin_memory=pin_memory,
        generator=generator,
    )
