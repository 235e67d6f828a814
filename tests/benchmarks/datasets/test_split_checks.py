"""Splits that share classes or images, or have nothing to retrieve."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.datasets import Glyphs, ImageClasses, ImageFiles, InShop
from benchmarks.datasets.split_checks import check_splits, overlaps
from benchmarks.datasets.splits import Splits
from benchmarks.errors import SettingsError
from few_glyphs import patterns
from miniature_sets import write_inshop

TRAIN, VAL, TEST = (patterns(split) for split in ("train", "val", "test"))


def renamed(images: ImageClasses) -> ImageClasses:
    names = [f"other {name}" for name in images.class_names]
    return ImageClasses(images.images, images.labels, names)


def on_disk(folder: Path, *names: str) -> ImageClasses:
    """Pictures of one class, which are written where they are not there."""
    folder.mkdir(exist_ok=True)
    for name in names:
        if not (folder / name).exists():
            Image.new("RGB", (4, 4)).save(folder / name, "PNG")
    files = ImageFiles([folder / name for name in names])
    return ImageClasses(files, torch.zeros(len(names)).long(), [folder.name])


def test_splits_of_other_classes_and_images_pass():
    check_splits(Splits(TRAIN, VAL, TEST), allow_overlap=False)
    assert overlaps(Splits(*(Glyphs(split) for split in ("train", "val", "test")))) == []


def test_files_that_are_missing_or_empty_are_named_before_training(tmp_path):
    train, test = (on_disk(tmp_path / name, *"abcdefg") for name in ("train", "test"))
    for place in ("train/b", *(f"test/{name}" for name in "cdefg")):
        (tmp_path / place).unlink()
    (tmp_path / "test" / "a").write_bytes(b"")
    message = (
        "7 images of train, test are missing or empty: .*train/b, .*test/a, .* and 2 more. Put"
    )
    with pytest.raises(SettingsError, match=message):
        check_splits(Splits(train, None, test), allow_overlap=True)


@pytest.mark.parametrize(
    ("splits", "pair"),
    [
        (Splits(TRAIN, None, TRAIN), "train and test"),
        (Splits(TRAIN, TRAIN, TEST), "train and val"),
        (Splits(TRAIN, VAL, VAL), "val and test"),
        (Splits(TRAIN, None, TEST, TRAIN), "train and gallery"),
    ],
)
def test_shared_classes_are_refused_unless_it_is_meant(splits, pair):
    (told,) = overlaps(splits)
    assert told.startswith(f"{pair} share 8 classes (such as ")
    with pytest.raises(SettingsError, match=rf"^data: {pair} share 8 .*data\.allow_overlap=true"):
        check_splits(splits, allow_overlap=False)


def test_some_shared_classes_are_counted():
    two = ImageClasses(torch.rand(4, 1, 12, 12), torch.tensor([0, 0, 1, 1]), ["new", "train 3"])
    assert overlaps(Splits(TRAIN, None, two)) == [
        "train and test share 1 classes (such as train 3)"
    ]


def test_the_same_pixels_under_other_names_are_found():
    (told,) = overlaps(Splits(TRAIN, VAL, renamed(TRAIN)))
    assert told == (
        "train and test share 64 images (such as one of train 0 here and of other train 0 there)"
    )
    stained = ImageClasses(
        torch.cat([TEST.images, TRAIN.images[:1]]),
        torch.cat([TEST.labels, torch.tensor([2])]),
        TEST.class_names,
    )
    (told,) = overlaps(Splits(TRAIN, VAL, stained))
    assert told == "train and test share 1 images (such as one of train 0 here and of test 2 there)"


def test_test_and_gallery_share_classes_but_no_images():
    images = torch.rand(6, 1, 4, 4)
    queries = ImageClasses(images[:3], torch.tensor([0, 1, 2]), "abc")
    gallery = ImageClasses(images[3:], torch.tensor([0, 1, 2]), "abc")
    check_splits(Splits(TRAIN, None, queries, gallery), allow_overlap=False)
    with pytest.raises(SettingsError, match="test and gallery share 3 images"):
        check_splits(Splits(TRAIN, None, queries, queries), allow_overlap=False)


def test_a_label_means_the_same_class_in_test_and_gallery():
    images = torch.rand(4, 1, 4, 4)
    queries = ImageClasses(images[:2], torch.tensor([0, 1]), "ab")
    gallery = ImageClasses(images[2:], torch.tensor([0, 1]), "ba")
    with pytest.raises(SettingsError, match="data.gallery: .*label 0 is 'b' there and 'a' in"):
        check_splits(Splits(TRAIN, None, queries, gallery), allow_overlap=False)


@pytest.mark.parametrize("link", [os.symlink, os.link, None])
def test_the_same_file_is_found_through_links(link, tmp_path):
    train = on_disk(tmp_path / "one", "a.png", "b.png")
    (tmp_path / "two").mkdir()
    if link is not None:
        link(tmp_path / "one" / "a.png", tmp_path / "two" / "c.png")
    test = on_disk(tmp_path / "two", "c.png", "d.png")
    found = overlaps(Splits(train, None, test))
    assert len(found) == (0 if link is None else 1)
    assert all("share 1 images" in text for text in found)


def test_the_queries_and_the_gallery_of_in_shop_pass(tmp_path):
    root = write_inshop(tmp_path)
    splits = [InShop(root, split, partial=True) for split in ("train", "query", "gallery")]
    check_splits(Splits(splits[0], None, *splits[1:]), allow_overlap=False)


@pytest.mark.parametrize("split", ["val", "test"])
def test_classes_of_one_image_each_are_refused_before_training(split):
    alone = patterns("test", count=1)
    splits = Splits(TRAIN, **({"val": None, "test": None} | {split: alone}))
    with pytest.raises(SettingsError, match=f"^data.{split}: no class has two images"):
        check_splits(splits, allow_overlap=True)


def test_images_of_a_kind_that_is_not_known_are_compared_by_class_alone():
    strange = patterns("test")
    strange.images = list(TRAIN.images)
    assert overlaps(Splits(TRAIN, None, strange)) == []
