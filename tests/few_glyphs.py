"""A small data set for the tests of the runner."""

from benchmarks.datasets import Glyphs, ImageClasses


def few_glyphs(split: str, num_classes: int) -> ImageClasses:
    """Return the first classes of a split of Glyphs, 24 images of each."""
    glyphs = Glyphs(split)
    rows = glyphs.labels < num_classes
    return ImageClasses(glyphs.images[rows], glyphs.labels[rows], glyphs.class_names[:num_classes])
