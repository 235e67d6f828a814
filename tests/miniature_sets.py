"""The standard image sets in miniature, in the layouts that their archives unpack to."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 6  # that train, and as many that test
IMAGES = 3  # of each class


def write_cub(root: Path) -> Path:
    """CUB_200_2011/: images and classes are numbered from 1, the classes that test from 101."""
    folder = root / "CUB_200_2011"
    images, labels = [], []
    for label in (*range(1, CLASSES + 1), *range(101, CLASSES + 101)):
        for i in range(IMAGES):
            path = f"{label:03}.Bird_{label}/Bird_{i:04}.jpg"
            _write_picture(folder / "images" / path, label, i)
            images.append(f"{len(images) + 1} {path}")
            labels.append(f"{len(labels) + 1} {label}")
    _write_lines(folder / "images.txt", images)
    _write_lines(folder / "image_class_labels.txt", labels)
    return root


def write_cars(root: Path) -> Path:
    """Names of 196 classes, numbered from 1; two lists of images that share classes."""
    names = [f"Car {label} C/V" for label in range(1, 197)]
    _write_lines(root / "names.csv", names)
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for label in (*range(1, CLASSES + 1), *range(99, CLASSES + 99)):
        for i in range(IMAGES):
            part = "test" if i == 0 else "train"
            name = f"{label}{i:03}.jpg"
            folder = root / "car_data" / "car_data" / part / names[label - 1].replace("/", "-")
            _write_picture(folder / name, label, i)
            lines[part].append(f"{name},1,2,30,40,{label}")
    for part, rows in lines.items():
        _write_lines(root / f"anno_{part}.csv", rows)
    return root


def write_sop(root: Path) -> Path:
    """Stanford_Online_Products/: products are numbered from 1, in folders of their kind."""
    folder = root / "Stanford_Online_Products"
    count = 0
    for part, first in (("train", 1), ("test", 11319)):
        lines = ["image_id class_id super_class_id path"]
        for label in range(first, first + CLASSES):
            for i in range(IMAGES):
                count += 1
                path = f"chair_final/{label}_{i}.JPG"
                _write_picture(folder / path, label, i)
                lines.append(f"{count} {label} 5 {path}")
        _write_lines(folder / f"Ebay_{part}.txt", lines)
    return root


def write_inshop(root: Path) -> Path:
    """Eval/list_eval_partition.txt and Img/img/: of each garment that tests one query."""
    lines = []
    for label in range(1, 2 * CLASSES + 1):
        garment = f"id_{label:08}"
        for i in range(IMAGES):
            path = f"img/WOMEN/Dresses/{garment}/{i:02}_1_front.jpg"
            _write_picture(root / "Img" / path, label, i)
            status = "train" if label <= CLASSES else "gallery" if i else "query"
            lines.append(f"{path}    {garment} {status}")
    head = [str(len(lines)), "image_name item_id evaluation_status"]
    _write_lines(root / "Eval" / "list_eval_partition.txt", [*head, *lines])
    return root


def _write_picture(path: Path, label: int, i: int) -> None:
    """A picture that tells its class by its colour, of a size of its own; some are grey."""
    rng = np.random.default_rng((label, i))
    height, width = rng.integers(30, 60, size=2)
    colour = np.random.default_rng(label).integers(50, 200, size=3)
    pixels = colour + rng.integers(-40, 40, size=(height, width, 3))
    picture = Image.fromarray(pixels.astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture.convert("L") if i == 2 else picture).save(path, format="JPEG")


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
