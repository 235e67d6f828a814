"""Image datasets for zero-shot retrieval: the classes of the test split are never trained on."""

from benchmarks.datasets.glyphs import Glyphs
from benchmarks.datasets.image_classes import ImageClasses
from benchmarks.datasets.image_folder import ImageFolder
from benchmarks.datasets.omniglot import Omniglot
from benchmarks.datasets.transforms import RandomAffine

__all__ = ["Glyphs", "ImageClasses", "ImageFolder", "Omniglot", "RandomAffine"]
