"""From pictures of any size to squares of one size: how datasets that are held in memory read."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageOps
from torch import Tensor

from benchmarks.datasets.image_files import pixels
from pml_synthesis._checks import expect_flag, expect_integer


class Squares:
    """The largest square in the middle of each picture, resized.

    A list of pictures -> float [B, 3 or 1, size, size] in [0, 1].

    Arguments:
        size: height and width of the result, in pixels.
        grey: whether to give one channel of brightness in the place of red, green and blue.

    Raises:
        ValueError: if size is below 1.

    Example:
        >>> Squares(64)([Image.new("RGB", (500, 335))]).shape
        torch.Size([1, 3, 64, 64])
    """

    def __init__(self, size: int, grey: bool = False) -> None:
        expect_integer("size", size)
        expect_flag("grey", grey)
        self.size = size
        self.grey = grey

    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Cut each picture."""
        mode = "L" if self.grey else "RGB"
        shape = (self.size, self.size)
        return torch.stack(
            [
                pixels(ImageOps.fit(picture.convert(mode), shape, Image.Resampling.BICUBIC))
                for picture in pictures
            ]
        )

    def __repr__(self) -> str:
        return f"Squares(size={self.size}, grey={self.grey})"


class Inverted:
    """Ink high in the place of paper high: images in [0, 1] -> 1 - images.

    Example:
        >>> Inverted()(torch.tensor([0.0, 1.0]))
        tensor([1., 0.])
    """

    def __call__(self, images: Tensor) -> Tensor:
        """Invert the images."""
        return 1 - images

    def __repr__(self) -> str:
        return "Inverted()"
