"""Batches do not depend on the processes that read them."""

import copy
import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import RandomSampler, Subset

from benchmarks.datasets import (
    ImageClasses,
    ImageFiles,
    RandomAffine,
    RandomFlip,
    RandomResizedCrop,
    loading,
)
from benchmarks.datasets.batches import SeededSampler, batches_of
from benchmarks.datasets.loading import in_order
from benchmarks.datasets.transforms import batch_at
from benchmarks.results.writing import reason
from few_glyphs import patterns

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


class CropAndFlip:
    """Two random transforms of pictures."""

    def __init__(self) -> None:
        self.crop, self.flip = RandomResizedCrop(8, seed=1), RandomFlip(seed=2)

    def __call__(self, pictures):
        return self.flip(self.crop(pictures))


class OneByOne:
    """A transform that gives another one single images."""

    def __init__(self, transform) -> None:
        self.transform = transform

    def __call__(self, images):
        return torch.cat([self.transform(image[None]) for image in images])


def shared_noise(images):
    """A transform of another library, which draws from the generators that everybody shares."""
    return torch.rand_like(images) + np.random.rand() + random.random()


@pytest.fixture
def pictures(tmp_path) -> ImageClasses:
    rng = np.random.default_rng(0)
    for i in range(24):
        pixels = rng.integers(0, 255, size=(12, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    files = ImageFiles([tmp_path / f"{i}.png" for i in range(24)])
    return ImageClasses(files, torch.arange(24) // 6, list("abcd"), CropAndFlip())


def read(images: ImageClasses, workers: int, rows: slice = slice(0, 4)) -> torch.Tensor:
    """The batches of two passes over the images."""
    sampler = SeededSampler(lambda: RandomSampler(images), seed=4)
    batches = batches_of(images, sampler, 4, rows, workers, pin_memory=False)
    return torch.cat([batch for _ in range(2) for batch, _ in batches])


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    monkeypatch.setattr(loading, "cores", lambda: 4)


@pytest.mark.parametrize("kind", ["affine", "pictures", "one by one", "another library's"])
def test_random_transforms_draw_the_same_with_any_number_of_workers(kind, pictures):
    images = pictures if kind == "pictures" else patterns("train", num_classes=4, count=6)
    if kind != "pictures":
        images.transform = {
            "affine": RandomAffine(seed=3),
            "one by one": OneByOne(RandomAffine(seed=3)),
            "another library's": shared_noise,
        }[kind]
    torch.manual_seed(1)
    # A dataset is read as it is, not as somebody left it.
    expected = read(copy.deepcopy(images), workers=0)
    torch.manual_seed(2)
    for workers in (1, 3):
        assert read(copy.deepcopy(images), workers).equal(expected)
    assert len(expected.flatten(1).unique(dim=0)) == 48, "no change twice"


def test_the_changes_of_an_epoch_are_one_sequence():
    """That of a transform by itself, so that published figures stay."""
    images = patterns("train", num_classes=4, count=6)
    changed = copy.copy(images)
    changed.transform = RandomAffine(seed=3)
    assert read(changed, workers=0).equal(RandomAffine(seed=3)(read(images, workers=0)))


def test_random_transforms_of_an_evaluation_draw_the_same_each_time():
    images = patterns("train", num_classes=4, count=6)
    images.transform = RandomAffine(seed=3)
    whole = Subset(images, range(24))
    passes = [
        torch.cat([batch for batch, _ in in_order(whole, 5, workers)]) for workers in (0, 0, 2)
    ]
    assert passes[0].equal(passes[1]) and passes[0].equal(passes[2])
    part = torch.cat([batch for batch, _ in in_order(Subset(images, range(9, 20)), 5, 0)])
    assert part.equal(passes[0][9:20]), "the part that another process of torchrun embeds"


def test_who_else_draws_does_not_notice_what_is_read():
    images = patterns("train", num_classes=4, count=6)
    images.transform = shared_noise
    for draw in (lambda: torch.rand(1).item(), np.random.rand, random.random):
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(7)
        expected = draw()
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(7)
        read(images, workers=0)
        assert draw() == expected


def test_batches_are_drawn_by_their_places_in_any_order():
    image = torch.rand(4, 1, 12, 12)
    expected = RandomAffine(seed=5)(image.repeat(3, 1, 1, 1)).split(4)
    transform = RandomAffine(seed=5)
    for number in (2, 0, 1, 1):
        with batch_at(4 * number):
            assert transform(image).equal(expected[number])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies_go_on_where_the_original_is(copied):
    images = torch.rand(8, 1, 12, 12)
    transform = RandomAffine(seed=1)
    transform(images[:3])
    assert copied(transform)(images).equal(transform(images))


def test_no_more_workers_are_started_than_there_are_cores(monkeypatch):
    monkeypatch.setattr(loading, "cores", lambda: 3)
    whole = Subset(patterns("train"), range(8))
    assert [in_order(whole, 4, workers).num_workers for workers in (0, 2, 10000)] == [0, 2, 3]


def test_what_fails_in_a_process_that_reads_ahead_is_told_in_a_line(pictures, tmp_path):
    (tmp_path / "3.png").write_bytes(b"no picture")
    with pytest.raises(OSError) as caught:
        read(pictures, workers=1)
    expected = f"OSError: {tmp_path / '3.png'} cannot be read as an image: Pillow does not know"
    assert reason(caught.value).startswith(expected)
