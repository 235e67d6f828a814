"""Random numbers that a seed alone decides."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

# What each stream of a run's random numbers is for. Runs with one seed start from the same models
# and see the same batches, whatever their loss.
MODELS, BATCHES, TRANSFORMS, EPOCHS = range(4)


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


@contextmanager
def seeded_apart(seed: int) -> Iterator[None]:
    """Seed the shared generators for a while; whoever else draws from them does not notice."""
    of_numpy, of_python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(of_numpy)
            random.setstate(of_python)
