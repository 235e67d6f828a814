"""Glyphs: which letters there are, and how they are drawn."""

import random
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.ft2font import FT2Font

from benchmarks.datasets import Glyphs
from benchmarks.datasets.glyphs import DRAWS, FONTS, LETTERS, draw_letters

IMAGES = len(FONTS) * DRAWS


def test_there_are_327_letters_in_five_scripts():
    counts = {"Latin": 188, "Greek": 25, "Cyrillic": 36, "Armenian": 42, "Georgian": 36}
    assert {script: len(letters) for script, letters in LETTERS.items()} == counts
    assert len(set("".join(LETTERS.values()))) == 327


@pytest.mark.parametrize("font", FONTS)
def test_every_font_has_every_letter(font):
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", font)
    drawn = FT2Font(str(path)).get_charmap()
    assert {ord(letter) for letter in "".join(LETTERS.values())} <= drawn.keys()


@pytest.mark.parametrize(
    ("split", "classes"), [("train", 151), ("val", 37), ("trainval", 188), ("test", 139)]
)
def test_each_split_has_24_images_of_each_of_its_letters(split, classes):
    glyphs = Glyphs(split)
    assert IMAGES == 24
    assert len(glyphs.class_names) == classes
    assert glyphs.images.shape == (classes * IMAGES, 1, 28, 28)
    assert glyphs.labels.bincount().tolist() == [IMAGES] * classes


def test_latin_letters_train_and_every_fifth_of_them_validates():
    assert "".join(Glyphs("trainval").class_names) == LETTERS["Latin"]
    assert "".join(Glyphs("val").class_names) == LETTERS["Latin"][4::5]
    assert "".join(Glyphs("test").class_names) == "".join([*LETTERS.values()][1:])


@pytest.mark.parametrize("scripts", [{}, {"test_scripts": ["Georgian"]}])
def test_training_validation_and_test_letters_are_disjoint(scripts):
    train, val, trainval, test = (
        {*Glyphs(split, **scripts).class_names} for split in ("train", "val", "trainval", "test")
    )
    assert not train & val
    assert train | val == trainval
    assert not trainval & test


def test_a_letter_has_the_same_images_in_every_split():
    train, trainval = Glyphs("train"), Glyphs("trainval")
    letter = train.class_names[100]
    images = train.images[train.labels == 100]
    assert torch.equal(
        images, trainval.images[trainval.labels == trainval.class_names.index(letter)]
    )


def test_other_scripts_can_be_the_test_set():
    test = Glyphs("test", test_scripts=["Georgian", "Greek"])
    assert "".join(test.class_names) == LETTERS["Greek"] + LETTERS["Georgian"]
    assert len(Glyphs("train", test_scripts=["Georgian"]).class_names) == 233
    assert len(Glyphs("val", test_scripts=["Georgian"]).class_names) == 58


@pytest.mark.parametrize("number", [1, 50, 150, 151])
def test_fewer_letters_are_spread_evenly_over_the_split(number):
    train, some = Glyphs("train"), Glyphs("train", num_classes=number)
    places = [train.class_names.index(letter) for letter in some.class_names]
    assert len(places) == number
    gaps = [b - a for a, b in zip(places, [*places[1:], 151], strict=True)]
    assert max(gaps) - min(gaps) <= 1
    assert some.labels.bincount().tolist() == [IMAGES] * number


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "valid"}, "`split`.*'valid'"),
        ({"num_classes": 0}, "`num_classes`.*from 1 to 151.*got 0"),
        ({"num_classes": 152}, "`num_classes`.*from 1 to 151.*got 152"),
        ({"test_scripts": ["Latin", "Runes"]}, "`test_scripts`.*Georgian.*Runes"),
        ({"test_scripts": list(LETTERS)}, "`test_scripts`.*not all"),
    ],
)
def test_what_there_is_not_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Glyphs(**options)


def test_the_seed_decides_the_images():
    images = draw_letters("AЖ", seed=3)
    assert torch.equal(images, draw_letters("AЖ", seed=3))
    assert not torch.equal(images, draw_letters("AЖ", seed=4))


def test_images_do_not_depend_on_the_number_of_threads():
    letters = LETTERS["Greek"]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = draw_letters(letters, seed=0)
        torch.set_num_threads(3)
        three = draw_letters(letters, seed=0)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, three)


def test_drawing_leaves_the_global_random_states_alone():
    before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    images = draw_letters("A", seed=0)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (str(np.random.get_state()), random.getstate())
    torch.manual_seed(1234)
    assert torch.equal(images, draw_letters("A", seed=0))


def test_ink_is_high_and_lies_on_the_letter():
    # An upright bar in the middle, on paper that noise alone darkens.
    images = draw_letters("I", seed=0).float() / 255
    assert images.min() == 0
    assert images.max() <= 1
    assert (images[0].amax(dim=(-2, -1)) > 0.6).all()
    border = torch.ones(28, 28, dtype=torch.bool)
    border[2:-2, 5:-5] = False
    assert images[0][:, border].mean() < 0.04


def test_every_letter_is_drawn_and_inside_its_image():
    images = torch.cat([Glyphs(split).images[:, 0] for split in ("trainval", "test")])
    beyond_noise = (images - 0.25).clamp(min=0)
    assert beyond_noise.sum(dim=(-2, -1)).min() > 2  # pixels' worth, in the smallest of them
    edges = torch.ones(28, 28, dtype=torch.bool)
    edges[1:-1, 1:-1] = False
    # The widest letters in the boldest fonts touch the edge in some draws.
    assert (images > 0.5)[:, edges].any(dim=1).float().mean() < 0.02


def test_the_two_draws_in_a_font_differ():
    images = draw_letters("RЖ", seed=0)
    assert (images[:, 0::DRAWS] != images[:, 1::DRAWS]).flatten(2).any(dim=-1).all()


def test_letters_can_be_told_apart():
    # Raw pixels find a neighbour of the same letter half of the time (chance: 1 in 145).
    glyphs = Glyphs("test")
    pixels = torch.nn.functional.normalize(glyphs.images.flatten(1))
    nearest = (pixels @ pixels.T).fill_diagonal_(-1).argmax(dim=1)
    precision = (glyphs.labels[nearest] == glyphs.labels).float().mean()
    assert 0.45 < precision < 0.6
