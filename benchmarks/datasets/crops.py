"""From pictures of any size to a batch of one size."""

import math
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from benchmarks.datasets.image_files import pixels
from benchmarks.datasets.transforms import RandomTransform
from pml_synthesis._checks import expect, expect_integer


class CenterCrop:
    """The middle of each picture: a list of pictures -> float [B, 3, size, size] in [0, 1].

    The shorter side is first resized to `resize`, as is usual for evaluation.

    Arguments:
        size: height and width of what is cut out, in pixels.
        resize: the length of the shorter side before that.

    Raises:
        ValueError: if size is below 1 or above resize.

    Example:
        >>> CenterCrop(224)([Image.new("RGB", (500, 335))]).shape
        torch.Size([1, 3, 224, 224])
    """

    def __init__(self, size: int = 224, resize: int = 256) -> None:
        expect(1 <= size <= resize, "size", f"in 1 .. `resize` ({resize})", size)
        self.size = size
        self.resize = resize

    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Cut each picture."""
        return torch.stack([self._cut(picture) for picture in pictures])

    def __repr__(self) -> str:
        return f"CenterCrop(size={self.size}, resize={self.resize})"

    def _cut(self, picture: Image.Image) -> Tensor:
        # The part of the picture that is the middle after resizing: one step instead of two.
        side = min(picture.size) * self.size / self.resize
        left, top = ((length - side) / 2 for length in picture.size)
        return resized(picture, (left, top, left + side, top + side), self.size)


class RandomResizedCrop(RandomTransform):
    """A random part of each picture: a list of pictures -> float [B, 3, size, size] in [0, 1].

    Its share of the picture's area is uniform in `scale` and the logarithm of its width over
    height is uniform in that of `ratio`; one that would not fit is made as large as fits. Two with
    the same seed cut the same parts, see RandomTransform.

    Arguments:
        size: height and width of the result, in pixels.
        scale: the smallest and the largest share of the area.
        ratio: the smallest and the largest width over height.
        seed: the start of the sequence of random numbers.

    Raises:
        ValueError: if size is below 1, scale not increasing in (0, 1], or ratio not increasing
            and positive.

    Example:
        >>> RandomResizedCrop(224, seed=1)([Image.new("RGB", (500, 335))]).shape
        torch.Size([1, 3, 224, 224])
    """

    def __init__(
        self,
        size: int = 224,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        expect_integer("size", size)
        for name, (low, high), most in (("scale", scale, 1), ("ratio", ratio, math.inf)):
            two = f"two numbers in (0, {most}], the smaller one first"
            expect(0 < low <= high <= most, name, two, [low, high])
        self.size = size
        self.scale = tuple(scale)
        self.ratio = tuple(ratio)

    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Cut each picture."""
        draws = self.draw(len(pictures), 4).tolist()
        return torch.stack(
            [
                resized(picture, self._box(*picture.size, *draw), self.size)
                for picture, draw in zip(pictures, draws, strict=True)
            ]
        )

    def __repr__(self) -> str:
        return (
            f"RandomResizedCrop(size={self.size}, scale={self.scale}, ratio={self.ratio}, "
            f"seed={self.seed})"
        )

    def _box(
        self, width: int, height: int, area: float, shape: float, x: float, y: float
    ) -> tuple[float, float, float, float]:
        """Left, top, right and bottom, from numbers in [0, 1)."""
        low, high = self.scale
        pixels = width * height * (low + (high - low) * area)
        ratio = self.ratio[0] * (self.ratio[1] / self.ratio[0]) ** shape
        wide = min(math.sqrt(pixels * ratio), width)
        tall = min(math.sqrt(pixels / ratio), height)
        left, top = x * (width - wide), y * (height - tall)
        return left, top, left + wide, top + tall


def resized(picture: Image.Image, box: tuple[float, float, float, float], size: int) -> Tensor:
    """Return the part of a picture in a box, float [channels, size, size] in [0, 1]."""
    return pixels(picture.resize((size, size), Image.Resampling.BICUBIC, box))
