"""GroceryStore: pooled parts, split by coarse class."""

from collections import Counter
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

import benchmarks
from benchmarks.__main__ import main
from benchmarks.datasets import GroceryStore, grocery_store
from benchmarks.datasets.grocery_store import PARTS
from real_sets import real_set

CONFIGS = Path(benchmarks.__file__).parent / "configs"
COARSE = {"Apple": ["Gala", "Pink-Lady"], "Milk": ["Fat", "Thin"], "Garlic": ["Garlic"]}
FINE = [(coarse, fine) for coarse, names in COARSE.items() for fine in names]
PER_PART = 2
SPLITS = {"validation": ["Milk"], "test": ["Apple"]}


def write_groceries(root: Path) -> Path:
    """The repository in miniature: each photograph has the colour of its class and part."""
    dataset = root / "dataset"
    dataset.mkdir(parents=True)
    lines = ["Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int)"]
    lines += [f"{fine},{i},{coarse},0" for i, (coarse, fine) in enumerate(FINE)]
    (dataset / "classes.csv").write_text("\n".join(lines) + "\n")
    for p, part in enumerate(PARTS):
        listed = []
        for i, (coarse, fine) in enumerate(FINE):
            for number in range(PER_PART):
                file = f"{part}/Kind/{coarse}/{fine}/{fine}_{number:03}.png"
                (dataset / file).parent.mkdir(parents=True, exist_ok=True)
                pixels = np.full((30, 40 + 10 * number, 3), 10 * i, dtype=np.uint8)
                pixels[..., 1] = 50 * p
                Image.fromarray(pixels).save(dataset / file)
                listed.append(f"{file}, {i}, 0")
        (dataset / f"{part}.txt").write_text("\n".join(listed) + "\n")
    return root


@pytest.fixture
def miniature(tmp_path) -> Path:
    return write_groceries(tmp_path / "clone")


@pytest.fixture(autouse=True)
def expected_counts(request, monkeypatch):
    if "real_root" not in request.fixturenames:
        monkeypatch.setattr(grocery_store, "IMAGES", len(FINE) * len(PARTS) * PER_PART)
        monkeypatch.setattr(grocery_store, "CLASSES", len(FINE))


def test_parts_are_pooled_and_coarse_classes_stay_together(miniature):
    def names(split: str) -> tuple[str, ...]:
        return GroceryStore(miniature, split, **SPLITS).class_names

    assert names("train") == ("Garlic/Garlic",)
    assert names("val") == ("Milk/Fat", "Milk/Thin")
    assert names("test") == ("Apple/Gala", "Apple/Pink-Lady")
    assert names("trainval") == ("Milk/Fat", "Milk/Thin", "Garlic/Garlic")


def test_images_are_squares_of_their_class_from_all_parts(miniature):
    images = GroceryStore(miniature, "trainval", size=16, **SPLITS)
    assert images.images.shape == (18, 3, 16, 16)
    assert images.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    values = (images.images[:, :2, 8, 8] * 255).round()
    assert values[:, 0].tolist() == [20] * 6 + [30] * 6 + [40] * 6
    assert values[:, 1].tolist() == [0, 0, 50, 50, 100, 100] * 3


def test_archives_and_clones_read_the_same(miniature, tmp_path):
    with ZipFile(tmp_path / "main.zip", "w") as archive:
        for path in sorted(miniature.rglob("*.*")):
            below = path.relative_to(miniature).as_posix()
            archive.write(path, f"GroceryStoreDataset-master/{below}")
    clone, packed = (GroceryStore(root, **SPLITS) for root in (miniature, tmp_path / "main.zip"))
    assert torch.equal(clone.images, packed.images)
    assert clone.class_names == packed.class_names


def test_a_set_that_is_not_whole_is_refused(miniature, tmp_path):
    (miniature / "dataset/val/Kind/Milk/Fat/Fat_001.png").unlink()
    message = r"Expected 30 images of 5 .* found 29 of 5; 1 are .*Milk/Fat/Fat_001.png.*marcusk"
    with pytest.raises(FileNotFoundError, match=message):
        GroceryStore(miniature, **SPLITS)
    with pytest.raises(FileNotFoundError, match="no dataset/classes.csv in .*marcusklasson"):
        GroceryStore(tmp_path / "nowhere")


def test_lists_that_are_broken_are_named(miniature):
    (miniature / "dataset/val.txt").write_text("no columns\n")
    with pytest.raises(OSError, match="dataset/val.txt: expected 3 columns .*Get it again from"):
        GroceryStore(miniature, **SPLITS)


def test_photographs_that_cannot_be_read_are_named(miniature):
    (miniature / "dataset/val/Kind/Milk/Fat/Fat_001.png").write_bytes(b"")
    with pytest.raises(OSError, match=r"Fat_001.png .* empty \(0 bytes\).*Get it again from"):
        GroceryStore(miniature, **SPLITS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "all"}, "`split`.*'all'"),
        ({"size": 0}, "`size`.*0"),
        (SPLITS | {"test": ["Apples"]}, "`test`.*'Apples': did you mean Apple"),
        (SPLITS | {"test": ["Milk"]}, "share no class"),
        (SPLITS | {"validation": ["Milk", "Garlic"]}, "leave classes for the split 'train'"),
    ],
)
def test_wrong_options_are_told(options, message, miniature):
    with pytest.raises(ValueError, match=message):
        GroceryStore(miniature, **options)


@pytest.mark.usefixtures("unrendered")
def test_the_settings_file_trains(miniature, tmp_path):
    short = ["epochs=1", "iterations_per_epoch=2", "batch_size=4", "seeds=[0]", "embedding_size=8"]
    where = [f"data.root={miniature}", f"results={tmp_path}"]
    of_set = [
        f"data.{split}.GroceryStore.{argument}=[{names[0]}]"
        for split in ("train", "val", "test")
        for argument, names in SPLITS.items()
    ]
    config = str(CONFIGS / "grocery.yaml")
    main(["run", config, "--variant", "norm_softmax", *where, *short, *of_set])
    assert "norm_softmax" in (tmp_path / "grocery" / "summary.md").read_text()


# ---------------------------------------------------------------- the real photographs


@pytest.fixture(scope="module")
def real_root() -> Path:
    return real_set("GROCERY_ROOT", "grocery", "GroceryStoreDataset")


def test_81_classes_are_split_39_15_and_27(real_root):
    splits = {split: GroceryStore(real_root, split, size=16) for split in ("train", "val", "test")}
    assert [len(images.class_names) for images in splits.values()] == [39, 15, 27]
    assert sum(len(images) for images in splits.values()) == 5421
    counts = torch.cat([images.labels.bincount() for images in splits.values()])
    assert (counts.min(), counts.max()) == (35, 143)
    coarse = Counter()
    for images in splits.values():
        coarse.update({name.split("/")[0] for name in images.class_names})
    assert len(coarse) == 43 and set(coarse.values()) == {1}, "no coarse class in two splits"
