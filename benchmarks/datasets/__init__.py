"""Image datasets for zero-shot retrieval: the classes of the test split are never trained on."""

from benchmarks.datasets.crops import CenterCrop, RandomResizedCrop
from benchmarks.datasets.emoji import Emoji
from benchmarks.datasets.font_glyphs import FontGlyphs
from benchmarks.datasets.glyphs import Glyphs
from benchmarks.datasets.grocery_store import GroceryStore
from benchmarks.datasets.image_classes import ImageClasses
from benchmarks.datasets.image_files import ImageFiles
from benchmarks.datasets.image_folder import ImageFolder
from benchmarks.datasets.in_shop import InShop
from benchmarks.datasets.noisy_labels import NoisyLabels
from benchmarks.datasets.omniglot import Omniglot
from benchmarks.datasets.part_of_each_class import PartOfEachClass
from benchmarks.datasets.pml_sets import CUB, Cars196, StanfordOnlineProducts
from benchmarks.datasets.squares import Inverted, Squares
from benchmarks.datasets.transforms import Normalize, RandomAffine, RandomFlip

__all__ = [
    "CUB",
    "Cars196",
    "CenterCrop",
    "Emoji",
    "FontGlyphs",
    "Glyphs",
    "GroceryStore",
    "ImageClasses",
    "ImageFiles",
    "ImageFolder",
    "InShop",
    "Inverted",
    "NoisyLabels",
    "Normalize",
    "Omniglot",
    "PartOfEachClass",
    "RandomAffine",
    "RandomFlip",
    "RandomResizedCrop",
    "Squares",
    "StanfordOnlineProducts",
]
