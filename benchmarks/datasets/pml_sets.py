"""CUB-200-2011, Cars-196 and Stanford Online Products, as PML reads and downloads them."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from pytorch_metric_learning import datasets
from pytorch_metric_learning.datasets import BaseDataset

from benchmarks.datasets.standard_set import Size, StandardSet


class CUB(StandardSet):
    """CUB-200-2011 (Wah et al., 2011): birds by species; the first 100 of 200 train.

    `root` holds the folder CUB_200_2011 of the authors' archive. For the arguments see StandardSet.

    Example:
        >>> CUB("data/cub", "test").class_names[0]  # doctest: +SKIP
        '101.White_Pelican'
    """

    sizes = {"train": Size(5864, 100), "test": Size(5924, 100)}
    source = (
        "https://data.caltech.edu/records/65de6-vp158 (CUB_200_2011.tgz), "
        "or with download=True into an empty folder"
    )

    @staticmethod
    def listed(root: Path, part: str, download: bool) -> Mapping[str, list[Path]]:
        """Return the files of each species."""
        return _read(datasets.CUB, root, part, download, _folder)


class Cars196(StandardSet):
    """Cars-196 (Krause et al., 2013): cars by make, model and year; the first 98 of 196 train.

    `root` holds car_data/car_data/, names.csv, anno_train.csv and anno_test.csv, as the copy on
    Kaggle that PML downloads has them: the authors' own pages are gone. Its division into train
    and test, which shares classes, is not used. For the arguments see StandardSet.

    Example:
        >>> Cars196("data/cars", "train").class_names[0]  # doctest: +SKIP
        'AM General Hummer SUV 2000'
    """

    sizes = {"train": Size(8054, 98), "test": Size(8131, 98)}
    source = (
        "https://www.kaggle.com/datasets/jutrera/stanford-car-dataset-by-classes-folder, "
        "or with download=True into an empty folder"
    )

    @staticmethod
    def listed(root: Path, part: str, download: bool) -> Mapping[str, list[Path]]:
        """Return the files of each model of car."""
        return _read(datasets.Cars196, root, part, download, _folder)


class StanfordOnlineProducts(StandardSet):
    """Stanford Online Products (Song et al., CVPR 2016): 11,318 of 22,634 products train.

    `root` holds the folder Stanford_Online_Products of the authors' archive. Classes are named by
    their published numbers. For the arguments see StandardSet.

    Example:
        >>> StanfordOnlineProducts("data/sop", "test").class_names[0]  # doctest: +SKIP
        '11319'
    """

    sizes = {"train": Size(59551, 11318), "test": Size(60502, 11316)}
    source = (
        "https://cvgl.stanford.edu/projects/lifted_struct (Stanford_Online_Products.zip), "
        "or with download=True into an empty folder"
    )

    @staticmethod
    def listed(root: Path, part: str, download: bool) -> Mapping[str, list[Path]]:
        """Return the files of each product."""
        return _read(datasets.StanfordOnlineProducts, root, part, download, _number)


def _read(
    dataset: type[BaseDataset],
    root: Path,
    part: str,
    download: bool,
    name: Callable[[Path, int], str],
) -> Mapping[str, list[Path]]:
    pictures = dataset(str(root), part, download=download)
    # The published numbers start at 1; classes become 0, 1, ... in their order.
    files: dict[str, list[Path]] = defaultdict(list)
    for path, label in sorted(zip(pictures.paths, pictures.labels, strict=True), key=_label):
        files[name(Path(path), label)].append(Path(path))
    return files


def _label(item: tuple[str, int]) -> int:
    return item[1]


def _folder(path: Path, label: int) -> str:
    return path.parent.name


def _number(path: Path, label: int) -> str:
    return str(label)
