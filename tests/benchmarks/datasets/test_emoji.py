"""Emoji: which are classes, how they are split, and what is said where they are not."""

import json
from collections import Counter
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

import benchmarks
from benchmarks.__main__ import main
from benchmarks.datasets import Emoji, emoji
from benchmarks.datasets.emoji import GROUPS, VENDORS
from real_sets import real_set

CONFIGS = Path(benchmarks.__file__).parent / "configs"
PER_GROUP = 3  # in the miniature


def drawing(*seed: int) -> Image.Image:
    """A coloured disc of its own on a transparent ground."""
    colour = np.random.default_rng(seed).integers(0, 200, size=3)
    pixels = np.zeros((72, 72, 4), dtype=np.uint8)
    pixels[20:50, 20:50] = [*colour, 255]
    return Image.fromarray(pixels)


def write_emoji(root: Path) -> Path:
    """The repository in miniature: some emoji of each group, and what breaks each of the rules."""
    groups = {group: [f"{group[:4]}_{i}" for i in range(PER_GROUP)] for group in [*GROUPS, "flags"]}
    groups["objects"] += ["alias", "rare", "same_by_two_teams", "twin_1", "twin_2"]
    names = [name for group in groups.values() for name in group]
    for v, vendor in enumerate(VENDORS):
        folder = root / "dist" / "emoji" / vendor
        folder.mkdir(parents=True)
        for i, name in enumerate(names):
            drawing(i, v).save(folder / f"{name}.png")
        drawing(99, min(v, 2)).save(folder / "same_by_two_teams.png")
        # Equal as pictures, not as files.
        drawing(100, v if v != 1 else 9).save(folder / "twin_1.png")
        drawing(101, v if v != 1 else 9).save(folder / "twin_2.png", compress_level=0)
    drawing(100, 9).save(root / "dist/emoji/openmoji/twin_2.png", compress_level=0)
    (root / "dist/emoji/noto/rare.png").unlink()
    lists = [
        {"name": group, "icons": [{"name": name} for name in names]}
        for group, names in groups.items()
    ]
    (root / "dist/groups.json").write_text(json.dumps(lists))
    canonical = {chr(0x1F600 + i): name for i, name in enumerate(names) if name != "alias"}
    canonical["no group"] = "bald"
    (root / "dist/emoji_to_name.json").write_text(json.dumps(canonical))
    return root


@pytest.fixture(scope="module")
def miniature(tmp_path_factory) -> Path:
    return write_emoji(tmp_path_factory.mktemp("emoji") / "clone")


@pytest.fixture(autouse=True)
def expected_counts(request, monkeypatch):
    if "real_root" not in request.fixturenames:
        for group in GROUPS:
            monkeypatch.setitem(emoji.GROUPS, group, PER_GROUP)


def classes(root: Path, split: str, **options) -> set[str]:
    return set(Emoji(root, split, **options).class_names)


def test_emoji_that_break_a_rule_are_no_classes(miniature):
    names = classes(miniature, "trainval") | classes(miniature, "test")
    assert names == {f"{group}/{group[:4]}_{i}" for group in GROUPS for i in range(PER_GROUP)}


def test_groups_are_never_shared_between_splits(miniature):
    def groups(split: str, **options) -> set[str]:
        return {name.split("/")[0] for name in classes(miniature, split, **options)}

    assert groups("val") == {"travel_&_places"}
    assert groups("test") == {"animals_&_nature", "food_&_drink", "activities"}
    assert groups("train") == set(GROUPS) - groups("val") - groups("test")
    assert groups("trainval") == groups("train") | groups("val")
    other = {"validation": ["symbols"], "test": ["objects"]}
    assert groups("val", **other) == {"symbols"} and groups("test", **other) == {"objects"}


def test_images_are_drawings_on_white_in_the_order_of_the_teams(miniature):
    images = Emoji(miniature, "test", size=36)
    assert images.images.shape == (3 * PER_GROUP * 4, 3, 36, 36)
    assert images.labels.bincount().tolist() == [4] * 3 * PER_GROUP
    assert images.images[:, :, 0, 0].min() == 1
    first = list(GROUPS).index("animals_&_nature") * PER_GROUP
    for v in range(len(VENDORS)):
        colour = np.asarray(drawing(first, v))[30, 30, :3] / 255
        torch.testing.assert_close(
            images.images[v, :, 18, 18], torch.tensor(colour).float(), atol=0.01, rtol=0
        )


def test_archives_and_clones_read_the_same(miniature, tmp_path):
    clone = Emoji(miniature)
    for below in ("", "discourse-emojis-main/"):
        folder = tmp_path / f"with {len(below)}"
        folder.mkdir()
        with ZipFile(folder / "any.zip", "w") as archive:
            for path in sorted(miniature.rglob("*.*")):
                archive.write(path, below + path.relative_to(miniature).as_posix())
        for root in (folder, folder / "any.zip"):
            packed = Emoji(root)
            assert torch.equal(packed.images, clone.images)
            assert packed.class_names == clone.class_names


def test_another_version_of_the_repository_is_refused_unless_it_is_meant(tmp_path):
    root = write_emoji(tmp_path)
    (root / "dist/emoji/twemoji/food_1.png").unlink()
    message = r"Expected 24 emoji .* found 23.*food_&_drink 2 \(3\).*Clone https.*commit 84a48c2"
    with pytest.raises(FileNotFoundError, match=message):
        Emoji(root)
    assert "food_&_drink/food_1" not in classes(root, "test", partial=True)


def test_what_is_missing_or_broken_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no dist/groups.json in .*github.com/discourse"):
        Emoji(tmp_path / "nowhere")
    root = write_emoji(tmp_path / "a")
    (root / "dist/emoji/noto/food_1.png").write_bytes(b"")
    with pytest.raises(OSError, match=r"noto/food_1.png .* empty \(0 bytes\).*Get it again"):
        Emoji(root)
    root = write_emoji(tmp_path / "b")
    (root / "dist/emoji_to_name.json").write_text("{")
    with pytest.raises(OSError, match="emoji_to_name.json is no JSON: .*Get it again from"):
        Emoji(root)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "all"}, "`split`.*'all'"),
        ({"size": 0}, "`size`.*0"),
        ({"test": ["food"]}, "`test`.*'food': did you mean food_&_drink"),
        ({"test": "objects"}, "`test`.*list.*'objects'"),
        ({"test": ["objects"], "validation": ["objects"]}, "share no class"),
        ({"split": "val", "validation": []}, "leave classes for the split 'val'"),
    ],
)
def test_wrong_options_are_told(options, message, miniature):
    with pytest.raises(ValueError, match=message):
        Emoji(miniature, **options)


@pytest.mark.usefixtures("unrendered")
def test_the_settings_file_trains(miniature, tmp_path):
    short = ["epochs=1", "iterations_per_epoch=2", "batch_size=8", "seeds=[0]", "embedding_size=8"]
    where = [f"data.root={miniature}", f"results={tmp_path}"]
    main(["run", str(CONFIGS / "emoji.yaml"), "--variant", "norm_softmax", *where, *short])
    assert "norm_softmax" in (tmp_path / "emoji" / "summary.md").read_text()


# ---------------------------------------------------------------- the real drawings


@pytest.fixture(scope="module")
def real_root() -> Path:
    return real_set("EMOJI_ROOT", "emoji", "discourse-emojis")


def test_there_are_1503_emoji_in_eight_groups(real_root):
    trainval, test = Emoji(real_root, "trainval"), Emoji(real_root, "test")
    names = [*trainval.class_names, *test.class_names]
    assert len(names) == len(set(names)) == sum(GROUPS.values()) == 1503
    assert Counter(name.split("/")[0] for name in names) == GROUPS
    assert len(test.class_names) == 353
    assert test.images.shape == (1412, 3, 32, 32)
    assert test.images.min() >= 0 and test.images.max() == 1
    assert test.images[:, :, 0, 0].mean() > 0.95, "the ground is white"


def test_the_drawings_of_an_emoji_are_alike_and_not_the_same(real_root):
    images = Emoji(real_root, "test").images.flatten(1)
    assert len(images.unique(dim=0)) == len(images)
    similar = torch.nn.functional.normalize(images - images.mean(dim=0))
    cosines = similar @ similar.T
    same = torch.arange(len(images)) // 4
    of_a_class = (same[:, None] == same) & ~torch.eye(len(images), dtype=torch.bool)
    assert cosines[of_a_class].mean() > cosines[~of_a_class].mean() + 0.2
