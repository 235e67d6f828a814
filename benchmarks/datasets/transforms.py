"""Random changes of images at training time."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import get_worker_info

from benchmarks.seeding import derived_seed
from pml_synthesis._checks import expect


class InTurn:
    """Several transforms, one after another.

    Arguments:
        transforms: the first is given the images, each other one what the one before it returns.
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Tensor]]) -> None:
        self.transforms = tuple(transforms)

    def reseeded(self, seed: int) -> "InTurn":
        """Return the same transforms, the random ones reseeded, see RandomTransform."""
        return InTurn([reseeded(each, seed, i) for i, each in enumerate(self.transforms)])

    def __call__(self, images: Any) -> Tensor:
        """Transform the images."""
        for transform in self.transforms:
            images = transform(images)
        return images

    def __repr__(self) -> str:
        return f"InTurn({self.transforms})"


class _Batch:
    """The batch that is being read, and the place of its first image in the epoch."""

    def __init__(self, place: int) -> None:
        self.place = place


_batch: ContextVar[_Batch | None] = ContextVar("_batch", default=None)


@contextmanager
def batch_at(place: int) -> Iterator[None]:
    """Let random transforms change a batch as its place in the epoch says.

    Whichever process reads the batch, and in whichever order, its changes are the same.

    Arguments:
        place: of the first image of the batch, counted from 0 over the batches of the epoch.
    """
    token = _batch.set(_Batch(place))
    try:
        yield
    finally:
        _batch.reset(token)


def reseeded(transform: Callable[[Any], Tensor], *key: int) -> Callable[[Any], Tensor]:
    """Return a transform whose own random numbers, if it has any, depend on a key, too."""
    if isinstance(transform, InTurn | RandomTransform):
        return transform.reseeded(derived_seed(*key))
    return transform


PADDINGS = ("lowest", "border", "reflection")


class RandomTransform:
    """A transform with random numbers of its own.

    Two with the same seed give the same sequence of changes, whether they are given single images
    or batches; a batch within `batch_at` gets the part of the sequence that belongs to its place.
    Without that, the sequence starts anew in a worker process of a DataLoader, from the seed and
    the worker's seed, so that neither workers nor epochs repeat each other.

    Arguments:
        seed: the start of the sequence.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._next = 0  # the place in the sequence of the next image
        self._worker_seed: int | None = None
        self._batch: _Batch | None = None
        self._forget_generator()

    def reseeded(self, seed: int) -> "RandomTransform":
        """Return the same transform with a sequence that depends on its seed and another one.

        Arguments:
            seed: the other one.
        """
        other = copy.copy(self)
        other._next, other.seed = 0, derived_seed(seed, self.seed)
        return other

    def draw(self, images: int, numbers: int) -> Tensor:
        """Return numbers in [0, 1) for each of some images: [images, numbers]."""
        self._follow_batch()
        generator = self._generator_at_next(numbers)
        self._next = self._drawn = self._next + images
        # One row for each image, so that a batch draws what its images would draw one by one.
        return torch.rand(images, numbers, generator=generator)

    def __getstate__(self) -> dict[str, Any]:
        # A process that is spawned cannot be given a generator, but the seed to make it again.
        return vars(self) | {"_generator": None, "_drawn": 0, "_batch": None}

    def _follow_batch(self) -> None:
        batch = _batch.get()
        if batch is not None and batch is not self._batch:
            self._batch, self._next = batch, batch.place
        worker = get_worker_info()
        if batch is None and worker is not None and worker.seed != self._worker_seed:
            # Each epoch starts new workers with copies of this object as the main process holds it.
            self._worker_seed, self._next = worker.seed, 0
            self._forget_generator()

    def _generator_at_next(self, numbers: int) -> torch.Generator:
        if self._generator is None or self._drawn > self._next:
            seed, worker_seed = self.seed, self._worker_seed
            if worker_seed is not None:
                seed = hash((seed, worker_seed)) % 2**63
            self._generator, self._drawn = torch.Generator().manual_seed(seed), 0
        # What is for the images in between, which others read.
        torch.rand(self._next - self._drawn, numbers, generator=self._generator)
        return self._generator

    def _forget_generator(self) -> None:
        self._generator: torch.Generator | None = None
        self._drawn = 0  # for how many images the generator has drawn


class RandomAffine(RandomTransform):
    """Rotate, shift and scale each image at random, see RandomTransform.

    Arguments:
        degrees: angles are uniform in [-degrees, degrees].
        shift: shifts are uniform in [-shift, shift] of the width and of the height.
        scale: sizes are uniform in [1 - scale, 1 + scale].
        seed: the start of the sequence.
        padding: what comes into view: the "lowest" value of the image, which is the paper where
            ink is high, its "border" drawn out, or a "reflection" of it.

    Called with float images [B, C, H, W] or one image [C, H, W], it returns the same shape.

    Raises:
        ValueError: if degrees or shift is negative, scale not in [0, 1), or padding unknown.

    Example:
        >>> RandomAffine(seed=1)(torch.rand(64, 1, 28, 28)).shape
        torch.Size([64, 1, 28, 28])
    """

    def __init__(
        self,
        degrees: float = 10,
        shift: float = 0.08,
        scale: float = 0.1,
        seed: int = 0,
        padding: str = "lowest",
    ) -> None:
        for name, value in (("degrees", degrees), ("shift", shift)):
            expect(value >= 0, name, "at least 0", value)
        expect(0 <= scale < 1, "scale", "in [0, 1)", scale)
        expect(padding in PADDINGS, "padding", f"one of {PADDINGS}", padding)
        super().__init__(seed)
        self.degrees = degrees
        self.shift = shift
        self.scale = scale
        self.padding = padding

    def __call__(self, images: Tensor) -> Tensor:
        """Change each of the images [B, C, H, W], or the one image [C, H, W]."""
        if images.dim() == 3:
            return self(images[None])[0]
        return warp_affine(images, *self._draw(len(images)), padding=self.padding)

    def __repr__(self) -> str:
        return (
            f"RandomAffine(degrees={self.degrees}, shift={self.shift}, scale={self.scale}, "
            f"seed={self.seed}, padding={self.padding!r})"
        )

    def _draw(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        angle, x, y, size = (2 * self.draw(count, 4) - 1).unbind(1)
        shifts = self.shift * torch.stack([x, y], dim=1)
        return math.radians(self.degrees) * angle, shifts, 1 + self.scale * size


class RandomFlip(RandomTransform):
    """Mirror every other image or so, left to right: float [B, C, H, W] -> the same shape.

    Arguments:
        seed: the start of the sequence of random numbers.

    Example:
        >>> RandomFlip(seed=1)(torch.rand(64, 3, 224, 224)).shape
        torch.Size([64, 3, 224, 224])
    """

    def __call__(self, images: Tensor) -> Tensor:
        """Mirror some of the images [B, C, H, W]."""
        mirrored = self.draw(len(images), 1).view(-1, 1, 1, 1) < 0.5
        return torch.where(mirrored, images.flip(-1), images)

    def __repr__(self) -> str:
        return f"RandomFlip(seed={self.seed})"


class Normalize:
    """Subtract a mean and divide by a deviation, by channel: float [B, C, H, W] -> the same shape.

    Arguments:
        mean: of each channel; default those of ImageNet, as pretrained networks expect them.
        std: of each channel.

    Example:
        >>> Normalize()(torch.zeros(64, 3, 224, 224)).shape
        torch.Size([64, 3, 224, 224])
    """

    def __init__(
        self,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        self.mean = tuple(mean)
        self.std = tuple(std)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise the images [B, C, H, W]."""
        mean, std = (images.new_tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std})"


def warp_affine(
    images: Tensor, angles: Tensor, shifts: Tensor, sizes: Tensor, padding: str = "lowest"
) -> Tensor:
    """Rotate, scale and then shift images [B, C, H, W] about their centres.

    Arguments:
        images: float [B, C, H, W].
        angles: [B], in radians, clockwise.
        shifts: [B, 2], to the right and down, as fractions of the width and of the height.
        sizes: [B], above 1 to enlarge.
        padding: what comes into view: each channel's "lowest" value, its "border" or a
            "reflection".

    Returns:
        The images [B, C, H, W].
    """
    cos, sin = angles.cos() / sizes, angles.sin() / sizes
    aspect = images.shape[-2] / images.shape[-1]
    # From places in the result back to places in the image, both in [-1, 1] x [-1, 1].
    turn = torch.stack([cos, sin * aspect, -sin / aspect, cos], dim=1).view(-1, 2, 2)
    matrices = torch.cat([turn, turn @ (-2 * shifts)[:, :, None]], dim=2).to(images)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    if padding != "lowest":
        return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)
    paper = images.amin(dim=(-2, -1), keepdim=True)
    return F.grid_sample(images - paper, grid, align_corners=False) + paper
