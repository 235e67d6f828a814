"""Some of the images of each class, so that classes can be tested that were trained on."""

import torch

from benchmarks.datasets.image_classes import ImageClasses
from benchmarks.datasets.image_files import ImageFiles
from pml_synthesis._checks import expect


class PartOfEachClass(ImageClasses):
    """Of each class of a dataset the images from `start` to `stop`, in their order.

    Two parts that do not overlap are training and test images of the same classes.

    Arguments:
        whole: the dataset.
        start: the first image of each class, counted from 0.
        stop: the first image that is left out again; by default there is none.

    Raises:
        ValueError: if a class has no images from start to stop, or start or stop is negative.

    Example:
        >>> whole = ImageClasses(torch.zeros(5, 1, 28, 28), torch.tensor([0, 1, 0, 1, 1]), "ab")
        >>> PartOfEachClass(whole, start=1).labels
        tensor([0, 1, 1])
    """

    def __init__(self, whole: ImageClasses, start: int = 0, stop: int | None = None) -> None:
        expect(start >= 0, "start", "at least 0", start)
        expect(stop is None or stop > start, "stop", f"above `start` ({start})", stop)
        rows = _rows(whole.labels, start, stop)
        left = set(whole.labels[rows].tolist())
        for label, name in enumerate(whole.class_names):
            if label not in left:
                raise ValueError(
                    f"Expected argument `start` to leave images of each class but got {start}: "
                    f"{name!r} has {int((whole.labels == label).sum())}."
                )
        images = whole.images
        if isinstance(images, ImageFiles):
            part: torch.Tensor | ImageFiles = ImageFiles([images.paths[row] for row in rows])
        else:
            part = images[rows]
        files = None if whole.files is None else [whole.files[row] for row in rows]
        super().__init__(part, whole.labels[rows], whole.class_names, whole.transform, files)


def _rows(labels: torch.Tensor, start: int, stop: int | None) -> torch.Tensor:
    """The places of the images from start to stop of each class, in the order of the dataset."""
    by_class = labels.argsort(stable=True)
    parts = [rows[start:stop] for rows in by_class.split(labels.bincount().tolist())]
    return torch.cat(parts).sort().values
