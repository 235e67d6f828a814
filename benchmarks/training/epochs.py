"""What a run trains on, epoch by epoch."""

from collections.abc import Callable

from benchmarks import distributed
from benchmarks.datasets import ImageClasses
from benchmarks.datasets.batches import SeededSampler
from benchmarks.seeding import EPOCHS, TRANSFORMS, derived_seed, seed_all


class Epochs:
    """The images to train on, as they are transformed in an epoch, and how batches are sampled.

    Arguments:
        transformed: returns the images with transforms that draw by a seed.
        sampler: decides which images are in the batches of the epoch.
        rows: those of each batch that this process takes.
        seed: of the run.

    Attributes:
        images: with the transforms of the epoch.
    """

    def __init__(
        self,
        transformed: Callable[[int], ImageClasses],
        sampler: SeededSampler,
        rows: slice,
        seed: int,
    ) -> None:
        self.transformed = transformed
        self.sampler = sampler
        self.rows = rows
        self.seed = seed
        self.start(0)

    def start(self, epoch: int) -> None:
        """Let all random numbers depend on the seed and the epoch, so that nobody keeps a state."""
        # Each process draws its own: dropout of other rows is other dropout.
        seed_all(derived_seed(self.seed, EPOCHS, epoch, distributed.rank()))
        self.sampler.set_epoch(epoch)
        self.images = self.transformed(derived_seed(self.seed, TRANSFORMS, epoch))
