"""Labelled images, in memory or on disk: the common shape of the benchmark's datasets."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.datasets.image_files import ImageFiles
from benchmarks.datasets.marks import Mark, mark
from pml_synthesis._checks import expect

SPLITS = ("train", "val", "trainval", "test")


class ImageClasses(Dataset[tuple[Tensor, int]]):
    """Items (image [C, H, W], label), fetched a batch at a time.

    A DataLoader takes whole batches through `__getitems__`, which indexes and transforms all
    images at once.

    Arguments:
        images: float [N, C, H, W], or ImageFiles, which are read at the time of fetching.
        labels: int64 [N], each of 0 .. len(class_names) - 1 at least once.
        class_names: the name of each label.
        transform: applied to each batch [B, C, H, W] at the time of fetching, a batch of one for
            a single item. Of ImageFiles it is given a list of pictures, and returns a batch.
        files: where images in memory were read, one path for each, if they have files of their own.

    Raises:
        ValueError: if images, labels and class names do not fit together; at the time of
            fetching, if no transform makes a batch of pictures.

    Example:
        >>> dataset = ImageClasses(torch.zeros(3, 1, 28, 28), torch.tensor([0, 0, 1]), ["a", "b"])
        >>> len(dataset), dataset[2][0].shape, dataset[2][1]
        (3, torch.Size([1, 28, 28]), 1)
    """

    def __init__(
        self,
        images: Tensor | ImageFiles,
        labels: Tensor,
        class_names: Sequence[str],
        transform: Callable[[Any], Tensor] | None = None,
        files: Sequence[str | Path] | None = None,
    ) -> None:
        if isinstance(images, Tensor):
            expect(images.dim() == 4, "images", "of shape [N, C, H, W]", tuple(images.shape))
            expect(images.is_floating_point(), "images", "floating point", images.dtype)
        form = f"of shape [{len(images)}], one label for each image"
        expect(labels.shape == (len(images),), "labels", form, tuple(labels.shape))
        if files is not None:
            form = f"{len(images)} paths, one for each image"
            expect(len(files) == len(images), "files", form, len(files))
        found, known = labels.unique().tolist(), list(range(len(class_names)))
        form = f"all of 0 .. {len(class_names) - 1}, one for each of `class_names`"
        expect(found == known, "labels", form, found)
        self.images = images
        self.labels = labels
        self.class_names = tuple(class_names)
        self.transform = transform
        paths = images.paths if isinstance(images, ImageFiles) else files
        self.files = None if paths is None else tuple(map(str, paths))

    @staticmethod
    def preparation() -> list[Callable[[Any], Any]] | None:
        """Return the steps from a list of any pictures to images as this dataset reads them.

        They let a trained network embed pictures from elsewhere. The first step makes a batch [B,
        C, H, W] in [0, 1], the others change it. Where there are none, the first of the transforms
        of evaluation is given the pictures. Keywords are those of the constructor that matter.

        Returns:
            The steps, or None if nobody knows them: the network then takes tensors alone.
        """
        return None

    @cached_property
    def mark(self) -> Mark:
        """What tells these images, without their transform, from others."""
        return mark(self.images, self.labels, self.class_names)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        rows = torch.as_tensor(indices)
        images = self.images[rows]
        if self.transform is not None:
            images = self.transform(images)
        if not isinstance(images, Tensor):
            raise ValueError(
                "Expected argument `transform` to make a batch [B, C, H, W] out of a list of "
                "pictures, such as CenterCrop or RandomResizedCrop first of all, but got "
                f"{self.transform}."
            )
        return list(zip(images.unbind(), self.labels[rows].tolist(), strict=True))


def check_split(split: str) -> None:
    """Raise a ValueError unless `split` is one of SPLITS."""
    expect(split in SPLITS, "split", f"one of {SPLITS}", split)
