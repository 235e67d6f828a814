"""Batches that the seed alone decides."""

from collections.abc import Iterator

import numpy as np
import torch
from pytorch_metric_learning.utils import common_functions as c_f
from torch.utils.data import Sampler


class SeededSampler(Sampler[int]):
    """A sampler of torch or PML with random numbers of its own.

    They draw from the global generators of torch and NumPy, so that their batches depend on who
    else draws. Here each pass draws from (seed, number of the pass): runs of different losses see
    the same batches.

    Arguments:
        sampler: a finite sampler of indices.
        seed: a non-negative integer.

    Example:
        >>> from torch.utils.data import RandomSampler
        >>> one, other = (SeededSampler(RandomSampler(range(100)), seed=1) for _ in range(2))
        >>> list(one) == list(other), list(one) == list(one)
        (True, False)
    """

    def __init__(self, sampler: Sampler[int], seed: int) -> None:
        self.sampler = sampler
        self.seed = seed
        self.passes = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        numpy_seed, torch_seed = np.random.SeedSequence([self.seed, self.passes]).generate_state(2)
        self.passes += 1
        shared = c_f.NUMPY_RANDOM
        c_f.NUMPY_RANDOM = np.random.RandomState(numpy_seed)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch_seed))
                return iter(list(self.sampler))
        finally:
            c_f.NUMPY_RANDOM = shared
