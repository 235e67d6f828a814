"""Some of the images of each class."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.datasets import (
    CenterCrop,
    Glyphs,
    ImageClasses,
    ImageFiles,
    PartOfEachClass,
    split_checks,
)
from benchmarks.datasets.splits import Splits
from benchmarks.settings.objects import build


def numbered(labels: list[int]) -> ImageClasses:
    """A dataset whose i-th image is full of i."""
    images = torch.arange(len(labels)).float().view(-1, 1, 1, 1)
    names = [f"class {label}" for label in range(max(labels) + 1)]
    return ImageClasses(images, torch.tensor(labels), names, transform=torch.neg)


@settings(max_examples=25, deadline=None)
@given(st.permutations([0] * 3 + [1] * 4 + [2] * 5), st.integers(1, 2))
def test_two_parts_are_the_whole(labels, border):
    whole = numbered(labels)
    first, last = PartOfEachClass(whole, stop=border), PartOfEachClass(whole, start=border)
    seen: dict[int, int] = {}
    expected = {"first": [], "last": []}
    for row, label in enumerate(labels):
        expected["first" if seen.get(label, 0) < border else "last"].append(row)
        seen[label] = seen.get(label, 0) + 1
    for name, part in (("first", first), ("last", last)):
        assert part.images.flatten().tolist() == expected[name]
        assert part.labels.tolist() == [labels[row] for row in expected[name]]
        assert (part.class_names, part.transform) == (whole.class_names, whole.transform)


def test_files_stay_on_disk():
    files = ImageFiles(["a/1.png", "b/1.png", "a/2.png"])
    whole = ImageClasses(files, torch.tensor([0, 1, 0]), ["a", "b"], CenterCrop())
    part = PartOfEachClass(whole, stop=1)
    assert part.images.paths == part.files == ("a/1.png", "b/1.png")


def test_images_in_memory_keep_the_files_that_they_were_read_from():
    images, files = torch.zeros(3, 1, 2, 2), ["a/1.png", "b/1.png", "a/2.png"]
    whole = ImageClasses(images, torch.tensor([0, 1, 0]), ["a", "b"], files=files)
    assert PartOfEachClass(whole, stop=1).files == ("a/1.png", "b/1.png")
    with pytest.raises(ValueError, match="`files` to be 3 paths, one for each image, but got 2"):
        ImageClasses(images, torch.tensor([0, 1, 0]), ["a", "b"], files=files[:2])


@pytest.mark.parametrize(
    ("start", "stop", "message"),
    [
        (-1, None, "`start` to be at least 0, but got -1"),
        (0, 0, r"`stop` to be above `start` \(0\), but got 0"),
        (2, 1, r"`stop` to be above `start` \(2\), but got 1"),
        (0, -1, r"`stop` to be above `start` \(0\), but got -1"),
    ],
)
def test_places_that_are_none_are_refused(start, stop, message):
    with pytest.raises(ValueError, match=message):
        PartOfEachClass(numbered([0, 0, 1, 1]), start, stop)


def test_a_class_that_is_left_without_images_is_named():
    with pytest.raises(ValueError, match="`start` .* but got 2: 'class 1' has 2"):
        PartOfEachClass(numbered([0, 0, 0, 1, 1]), start=2)


def test_training_and_test_images_of_the_same_classes_are_not_the_same_images():
    train, test = (
        build({"PartOfEachClass": {"whole": {"Glyphs": {"num_classes": 5}}, **part}})
        for part in ({"stop": 18}, {"start": 18})
    )
    assert (len(train), len(test)) == (90, 30)
    assert train.class_names == test.class_names == Glyphs("train", num_classes=5).class_names
    (told,) = split_checks.overlaps(Splits(train, None, test))
    assert "share 5 classes" in told and "images" not in told
