"""FontGlyphs: characters that all fonts of a folder have."""

import shutil
from pathlib import Path

import matplotlib
import pytest
import torch

import benchmarks
from benchmarks.__main__ import main
from benchmarks.datasets import FontGlyphs, Glyphs, font_glyphs
from real_sets import real_set

CONFIGS = Path(benchmarks.__file__).parent / "configs"
FONTS = ("DejaVuSans.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSansMono-Oblique.ttf")
LETTERS = "ABCDEFGHIJKLMNOPQRST"
SPLITS = {"characters": LETTERS, "validation": 0.2, "test": 0.3}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fonts")
    for i, font in enumerate(FONTS):
        (folder / str(i)).mkdir()
        shutil.copy(Path(matplotlib.get_data_path(), "fonts", "ttf", font), folder / str(i) / font)
    (folder / "LICENSE.txt").write_text("no font")
    return folder


def names(root: Path, split: str, **options) -> str:
    return "".join(FontGlyphs(root, split, **(SPLITS | options)).class_names)


def test_each_character_is_drawn_in_each_font(root):
    glyphs = FontGlyphs(root, "test", draws=3, **SPLITS)
    assert len(glyphs.class_names) == 6
    assert glyphs.images.shape == (6 * 9, 1, 28, 28)
    assert glyphs.labels.bincount().tolist() == [9] * 6
    assert glyphs.images.min() == 0 and 0.8 < glyphs.images.max() <= 1
    assert (glyphs.images.amax(dim=(1, 2, 3)) > 0.5).all()
    assert len(glyphs.images.flatten(1).unique(dim=0)) == len(glyphs.images)


def test_splits_share_no_character(root):
    train, val, trainval, test = (names(root, s) for s in ("train", "val", "trainval", "test"))
    assert (len(train), len(val), len(test)) == (10, 4, 6)
    assert set(train) | set(val) == set(trainval)
    assert set(trainval) | set(test) == set(LETTERS) and not set(trainval) & set(test)
    assert names(root, "test", test="XA", characters=LETTERS + "X") == "AX"


@pytest.mark.parametrize("number", [1, 3, 10])
def test_fewer_classes_are_spread_over_the_split(number, root):
    train, some = names(root, "train"), names(root, "train", num_classes=number)
    places = [train.index(letter) for letter in some]
    assert len(places) == number and places == sorted(places)
    gaps = [b - a for a, b in zip(places, [*places[1:], len(train)], strict=True)]
    assert max(gaps) - min(gaps) <= 1


def test_images_depend_on_the_character_and_the_seed_alone(root):
    train = FontGlyphs(root, "train", **SPLITS)
    for options in ({"num_classes": 3}, {"split": "trainval"}, {"characters": LETTERS + "XYZ"}):
        others = FontGlyphs(root, **({"split": "train"} | SPLITS | options))
        shared = set(train.class_names) & set(others.class_names)
        assert shared
        for letter in shared:
            one, other = (
                glyphs.images[glyphs.labels == glyphs.class_names.index(letter)]
                for glyphs in (train, others)
            )
            assert torch.equal(one, other)
    again = FontGlyphs(root, "train", seed=1, **SPLITS)
    assert again.class_names == train.class_names
    assert not torch.equal(again.images, train.images)


def test_images_look_like_those_of_glyphs(root):
    letters = [name for name in Glyphs("trainval").class_names if name in LETTERS]
    drawn = FontGlyphs(root, "test", characters=LETTERS, validation=0, test="".join(letters))
    assert list(drawn.class_names) == letters
    known = Glyphs("trainval").images[: 24 * len(letters)]
    means = [
        images.unflatten(0, (len(letters), -1)).mean(dim=1).flatten(1)
        for images in (drawn.images, known)
    ]
    cosines = torch.nn.functional.cosine_similarity(*means)
    assert cosines.mean() > 0.9


def test_images_are_drawn_once(root, monkeypatch):
    first = FontGlyphs(root, "val", **SPLITS)
    monkeypatch.setattr(font_glyphs, "_draw", None)
    assert torch.equal(FontGlyphs(root, "val", **SPLITS).images, first.images)


def test_drawing_leaves_the_global_random_state_alone(root):
    before = torch.get_rng_state()
    FontGlyphs(root, "val", seed=2, **SPLITS)
    assert torch.equal(before, torch.get_rng_state())


def test_fonts_that_cannot_serve_are_named(root, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no fonts \(.ttf, .otf\) in .*nowhere. Clone http"
    ):
        FontGlyphs(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no fonts"):
        FontGlyphs(tmp_path)
    message = "`characters`.*all 3 fonts.*DejaVuSans.ttf 20992, such as .*Leave these characters"
    with pytest.raises(ValueError, match=message):
        FontGlyphs(root)
    with pytest.raises(
        ValueError, match="of 2 these fonts lack some: DejaVuSans.ttf 1, such as 㐀"
    ):
        FontGlyphs(root, characters="A㐀")
    (tmp_path / "broken.otf").write_text("no font")
    with pytest.raises(OSError, match="broken.otf cannot be read as a font: .* Replace or remove"):
        FontGlyphs(tmp_path)


def test_a_character_without_ink_is_named(root):
    with pytest.raises(OSError, match=r"DejaVuSans.ttf draws nothing for ' ' \(U\+0020\)"):
        FontGlyphs(root, "test", characters="AB ", test=" ", validation=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "all"}, "`split`.*'all'"),
        ({"draws": 0}, "`draws`.*0"),
        ({"num_classes": 11}, "`num_classes`.*from 1 to 10.*got 11"),
        ({"test": 1.5}, r"`test`.*\[0, 1\)"),
        ({"test": "Z"}, "`test`.*'Z'"),
        ({"test": "A", "validation": "AB"}, "share no class"),
    ],
)
def test_wrong_options_are_told(options, message, root):
    with pytest.raises(ValueError, match=message):
        FontGlyphs(root, **(SPLITS | options))


@pytest.mark.usefixtures("unrendered")
def test_the_settings_file_trains(root, tmp_path):
    short = ["epochs=1", "iterations_per_epoch=2", "batch_size=8", "seeds=[0]", "embedding_size=8"]
    where = [f"data.root={root}", f"results={tmp_path}", "data.train.FontGlyphs.num_classes=3"]
    of_set = [
        f"data.{split}.FontGlyphs.{argument}={value}"
        for split in ("train", "val", "test")
        for argument, value in SPLITS.items()
    ]
    config = str(CONFIGS / "fonts.yaml")
    main(["run", config, "--variant", "norm_softmax", *where, *short, *of_set])
    assert "norm_softmax" in (tmp_path / "fonts" / "summary.md").read_text()


# ---------------------------------------------------------------- the real fonts


@pytest.fixture(scope="module")
def real_root() -> Path:
    return real_set("FONTS_ROOT", "fonts", "the eight fonts with Chinese characters")


def test_eight_fonts_share_6675_chinese_characters(real_root):
    fonts, _ = font_glyphs._find_fonts(real_root)
    assert len(fonts) == 8
    assert len(font_glyphs._shared_characters(fonts, None)) == 6675


def test_50_of_6008_classes_of_16_images(real_root):
    with pytest.raises(ValueError, match="from 1 to 6008"):
        FontGlyphs(real_root, "train", num_classes=7000)
    train = FontGlyphs(real_root, "train", num_classes=50)
    assert train.labels.bincount().tolist() == [16] * 50
    # Raw pixels find a neighbour of the same character in 3 of 10 cases (chance: 1 in 50).
    pixels = torch.nn.functional.normalize(train.images.flatten(1))
    nearest = (pixels @ pixels.T).fill_diagonal_(-1).argmax(dim=1)
    assert (train.labels[nearest] == train.labels).float().mean() > 0.2
