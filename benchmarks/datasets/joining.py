"""Several datasets as one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.datasets.image_classes import ImageClasses
from benchmarks.datasets.image_files import ImageFiles


def joined(datasets: Sequence[ImageClasses]) -> ImageClasses:
    """Return all images of some datasets, with the transform of the first one.

    Classes of one name are one class.

    Raises:
        ValueError: if some are held in memory and others read from disk, or their images differ in
            shape.

    Example:
        >>> one = ImageClasses(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), ["a", "b"])
        >>> other = ImageClasses(torch.ones(2, 1, 8, 8), torch.tensor([0, 1]), ["b", "c"])
        >>> both = joined([one, other])
        >>> both.class_names, both.labels.tolist()
        (('a', 'b', 'c'), [0, 1, 1, 2])
    """
    names = list(dict.fromkeys(name for dataset in datasets for name in dataset.class_names))
    places = {name: place for place, name in enumerate(names)}
    labels = [
        torch.tensor([places[name] for name in dataset.class_names])[dataset.labels]
        for dataset in datasets
    ]
    images = _joined_images([dataset.images for dataset in datasets])
    return ImageClasses(images, torch.cat(labels), names, datasets[0].transform)


def _joined_images(parts: Sequence[Tensor | ImageFiles]) -> Tensor | ImageFiles:
    files = [part for part in parts if isinstance(part, ImageFiles)]
    if len(files) == len(parts):
        return ImageFiles([path for part in files for path in part.paths])
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if len(tensors) < len(parts) or len({part.shape[1:] for part in tensors}) > 1:
        raise ValueError(
            "Expected datasets whose images are all held in memory, with one shape, or all read "
            "from disk."
        )
    return torch.cat(tensors)
