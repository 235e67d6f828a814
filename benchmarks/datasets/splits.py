"""The datasets of a comparison."""

from dataclasses import dataclass

from benchmarks.datasets.image_classes import ImageClasses
from benchmarks.datasets.marks import Mark


@dataclass(frozen=True)
class Splits:
    """The images to train on, and those of other classes to choose the epoch by and to test on.

    Test images retrieve those of the gallery, or where there is none each other.
    """

    train: ImageClasses
    val: ImageClasses | None
    test: ImageClasses | None
    gallery: ImageClasses | None = None

    def given(self) -> dict[str, ImageClasses]:
        """Return the splits that there are, by their names."""
        return {name: images for name, images in vars(self).items() if images is not None}

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many classes and images each split has."""
        return {
            name: {"classes": len(images.class_names), "images": len(images)}
            for name, images in self.given().items()
        }

    def marks(self) -> dict[str, Mark]:
        """Return what tells the images of each split from others."""
        return {name: images.mark for name, images in self.given().items()}
