"""A trained network with its own preprocessing."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.datasets.image_files import read_picture, upright

Pictures = Tensor | Image.Image | str | Path | Sequence[Image.Image | str | Path]
BATCH = 64  # pictures that are embedded at once


class Embedder(nn.Module):
    """From batches of images to embeddings of length 1: preprocessing, trunk, embedder.

    Arguments:
        trunk: the network.
        embedder: what follows it, if anything.
        transforms: of images in [0, 1], one after another.
    """

    def __init__(
        self,
        trunk: nn.Module,
        embedder: nn.Module | None,
        transforms: Sequence[Callable[[Tensor], Tensor]],
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.embedder = embedder or nn.Identity()
        self.transforms = tuple(transforms)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings [B, D] of images [B, C, H, W]: uint8, or floats in [0, 1]."""
        images = images / 255 if images.dtype == torch.uint8 else images
        for transform in self.transforms:
            images = transform(images)
        return self.encode(images)

    def encode(self, images: Tensor) -> Tensor:
        """Embeddings [B, D] of images that are transformed already."""
        return F.normalize(self.embedder(self.trunk(images)))


class TrainedModel(nn.Module):
    """A trained network with the preprocessing that it was tested with, see load_model.

    Call it with a picture of Pillow, the path of one, a list of these, or a tensor [B, C, H, W] of
    images of its `shape`, uint8 or floats in [0, 1]. Pictures are turned as their camera was held,
    and put on white, before they are resized. PML's InferenceModel can take it as its trunk.

    Arguments:
        embedder: from images to embeddings.
        prepare: from a list of pictures in RGB to a batch of images in [0, 1], or None where nobody
            knows how: it then takes tensors alone.

    Attributes:
        shape: channels, height and width of the images, or None where nobody knows.
    """

    def __init__(
        self, embedder: Embedder, prepare: Callable[[list[Image.Image]], Tensor] | None
    ) -> None:
        super().__init__()
        self.embedder = embedder.eval()
        self.prepare = prepare
        self.shape: tuple[int, ...] | None = None
        if prepare is not None:
            self.shape = tuple(prepare([Image.new("RGB", (64, 64))]).shape[1:])

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @torch.no_grad()
    def forward(self, pictures: Pictures) -> Tensor:
        """Return embeddings of length 1: [B, D], of a single picture [1, D].

        Raises:
            ValueError: if there is no picture, or a tensor has not the shape of its images.
            TypeError: if something is no picture, path or tensor.
            OSError: if a file cannot be read; the message names it.
        """
        batches = self._batches(pictures)
        return torch.cat([self.embedder(batch.to(self.device)) for batch in batches])

    def images(self, pictures: Sequence[Image.Image | str | Path]) -> Tensor:
        """Return pictures as the network takes them: float [B, *shape] in [0, 1].

        Raises:
            ValueError: if nobody knows how.
            TypeError, OSError: as in a call.
        """
        if self.prepare is None:
            raise ValueError(
                "Expected a tensor [B, C, H, W], since the dataset of this run does not say how it "
                "reads pictures. Give it a static method `preparation`, as those of "
                "benchmarks.datasets have, or transform the pictures yourself."
            )
        return self.prepare([_opened(picture) for picture in pictures])

    def _batches(self, pictures: Pictures) -> Iterator[Tensor]:
        if isinstance(pictures, Tensor):
            self._check(pictures)
            yield from pictures.split(BATCH)
            return
        several = isinstance(pictures, Sequence) and not isinstance(pictures, str)
        every: Any = pictures if several else [pictures]
        if not every:
            raise ValueError("Expected at least one picture but got an empty list.")
        for start in range(0, len(every), BATCH):
            yield self.images(every[start : start + BATCH])

    def _check(self, images: Tensor) -> None:
        fits = images.dim() == 4 and self.shape in (None, tuple(images.shape[1:]))
        if not fits or not len(images):
            wanted = "C, H, W" if self.shape is None else ", ".join(map(str, self.shape))
            raise ValueError(
                f"Expected images as a tensor [B, {wanted}] with B of at least 1, but got "
                f"{list(images.shape)}. Give a list of pictures, which are resized, or resize them."
            )
        if not (images.dtype == torch.uint8 or images.is_floating_point()):
            raise TypeError(
                f"Expected images as uint8, or as floats in [0, 1], but got {images.dtype}."
            )


def _opened(picture: Image.Image | str | Path) -> Image.Image:
    if isinstance(picture, Image.Image):
        return upright(picture)
    if isinstance(picture, str | Path):
        return read_picture(picture)
    raise TypeError(
        f"Expected a picture of Pillow or the path of a file but got {type(picture).__name__}."
    )
