"""Images of the user's own: from a folder to a comparison."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import benchmarks
from benchmarks.__main__ import main
from benchmarks.datasets import CUB, Emoji, FontGlyphs, GroceryStore, ImageFolder, Omniglot

CONFIG = Path(benchmarks.__file__).parent / "configs" / "image_folder.yaml"


def write_images(root: Path, classes: int, images: int = 4, size: int = 10) -> Path:
    """Write noisy copies of a random picture for each class."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        folder = root / f"class {label}"
        folder.mkdir(parents=True)
        prototype = rng.integers(50, 200, size=(size, size, 3))
        for i in range(images):
            pixels = prototype + rng.integers(-50, 50, size=prototype.shape)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "mine", classes=10)


def split(root: Path, **options) -> dict[str, set[str]]:
    splits = ("train", "val", "trainval", "test")
    return {name: set(ImageFolder(root, name, size=4, **options).class_names) for name in splits}


@pytest.mark.usefixtures("unrendered")
def test_a_users_own_folder_is_compared_by_editing_one_file(root, tmp_path, capsys):
    # As docs/own_images.md tells: copy the file, say where the images are, run.
    text = CONFIG.read_text().replace("root: ???", f"root: {root}")
    config = tmp_path / "mine.yaml"
    config.write_text(text)
    short = ["epochs=1", "iterations_per_epoch=2", "batch_size=16", "seeds=[0]", "parallel_runs=2"]
    main(["compare", str(config), f"results={tmp_path / 'runs'}", *short])
    assert "proxy_anchor+see" in capsys.readouterr().out
    summary = pd.read_csv(tmp_path / "runs" / "mine" / "summary.csv")
    assert summary["variant"].tolist() == [
        *("raw_pixels", "proxy_nca", "proxy_nca+ps"),
        *("proxy_anchor", "proxy_anchor+ps", "proxy_anchor+see"),
    ]
    assert summary["precision_at_1"].iloc[0] == 100, "pixels tell these classes apart"


def test_fractions_of_the_classes_are_split_by_the_seed(root):
    one = split(root, validation=0.2, test=0.3)
    assert {name: len(classes) for name, classes in one.items()} == {
        **{"train": 5, "val": 2, "trainval": 7, "test": 3}
    }
    assert one["train"] | one["val"] == one["trainval"]
    assert not one["train"] & one["val"] and not one["trainval"] & one["test"]
    assert split(root, validation=0.2, test=0.3) == one
    assert split(root, validation=0.2, test=0.3, seed=1) != one
    # However much validates, the same classes test.
    assert split(root, validation=0.5, test=0.3)["test"] == one["test"]


def test_lists_of_classes_are_taken_as_they_are(root):
    named = split(root, validation=["class 3"], test=["class 5", "class 1"])
    assert named["val"] == {"class 3"} and named["test"] == {"class 1", "class 5"}
    assert len(named["train"]) == 7
    mixed = split(root, validation=["class 3"], test=0.8)
    assert mixed["val"] == {"class 3"} and len(mixed["test"]) == 8


@pytest.mark.parametrize(("grey", "channels"), [(False, 3), (True, 1)])
def test_images_are_squares_in_order(grey, channels, root):
    images = ImageFolder(root, "test", test=["class 2", "class 7"], size=5, grey=grey)
    assert images.images.shape == (8, channels, 5, 5)
    assert images.images.min() >= 0 and 0.3 < images.images.max() <= 1
    assert images.class_names == ("class 2", "class 7")
    assert images.labels.tolist() == [0] * 4 + [1] * 4
    sized = ImageFolder(root, "test", test=["class 2"], size=10, grey=False)
    pixels = np.asarray(Image.open(root / "class 2" / "3.png"))
    torch.testing.assert_close(sized.images[3] * 255, torch.tensor(pixels).permute(2, 0, 1).float())


def test_the_middle_of_a_wide_picture_is_taken_upright(tmp_path):
    pixels = np.zeros((10, 30, 3), dtype=np.uint8)
    pixels[:, 10:20, 0] = 255
    pixels[:5, 10:20, 1] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels[::-1, ::-1]).save(tmp_path / name / "x.PNG", exif=exif)
        Image.fromarray(pixels[::-1, ::-1]).save(tmp_path / name / "y.jpg", "PNG", exif=exif)
    image, _ = ImageFolder(tmp_path, "test", test=["a"], size=10).images
    assert image[0].min() == 1 and image[1, :5].min() == 1 and image[1, 5:].max() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": ["class 99"]}, "`test`.*'class 99': did you mean"),
        ({"test": "class 1"}, "`test`.*a fraction or a list of classes, but got 'class 1'"),
        ({"validation": 1.0}, r"`validation`.*\[0, 1\), but got 1.0"),
        ({"validation": ["class 1"], "test": ["class 1"]}, "share no class but both have.*class 1"),
        ({"split": "val", "validation": 0}, "leave classes for the split 'val', out of 10"),
        ({"validation": 0.5, "test": 0.5}, "leave classes for the split 'train'"),
        ({"split": "all"}, "`split`.*'all'"),
        *(
            ({"size": size}, f"`size`.*integer of at least 1, but got {size!r}")
            for size in (0, 8.0, "8", None, True)
        ),
        ({"grey": "no"}, "`grey` to be True or False, but got 'no'"),
    ],
)
def test_wrong_options_are_told(options, message, root):
    with pytest.raises(ValueError, match=message):
        ImageFolder(root, **options)


@pytest.mark.parametrize("dataset", [ImageFolder, Emoji, FontGlyphs, GroceryStore, Omniglot, CUB])
@pytest.mark.parametrize("given", [None, 2024, ""])
def test_a_root_that_is_no_path_is_told(dataset, given):
    with pytest.raises(ValueError, match=f"`root` to be the path .*quotes .* got {given!r}"):
        dataset(given)


def test_the_root_may_be_in_the_home_of_the_user(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    assert len(ImageFolder(f"~/{root.name}", "test", test=["class 1"], size=4)) == 4


def test_what_is_missing_is_told_with_the_layout(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere. Images are expected in"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no folders of classes in .*<class>/"):
        ImageFolder(tmp_path)
    write_images(tmp_path, classes=3)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("none yet")
    with pytest.raises(FileNotFoundError, match="no images of cat in"):
        ImageFolder(tmp_path)


def test_all_files_that_cannot_be_read_are_counted_and_named(root, tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / name, classes=1)
    (tmp_path / "cat" / "class 0" / "1.jpg").write_text("no picture")
    (tmp_path / "cat" / "class 0" / "2.png").write_bytes(b"")
    with pytest.raises(OSError) as error:
        ImageFolder(tmp_path, "test", test=["cat", "dog"])
    message = str(error.value)
    assert "2 of 9 images cannot be read" in message
    assert "1.jpg cannot be read as an image: Pillow does not know its format" in message
    assert "2.png cannot be read as an image: it is empty (0 bytes)" in message
    for number in range(9):
        (tmp_path / "cat" / "class 0" / f"x{number}.png").write_bytes(b"")
    with pytest.raises(OSError, match=r"(?s)11 of 18 images.*x0.png.*and 6 more"):
        ImageFolder(tmp_path, "test", test=["cat", "dog"])


def test_files_of_unknown_formats_are_counted_and_named(tmp_path):
    write_images(tmp_path, classes=3)
    for name in ("class 1/1.HEIC", "class 1/2.heic", "3.heic", "notes.txt"):
        (tmp_path / name).write_text("not read")
    for name in (".DS_Store", "Thumbs.db", "._1.png"):  # left by systems
        (tmp_path / "class 1" / name).write_text("not meant")
    (tmp_path / "class 1" / ".thumbnails").mkdir()
    (tmp_path / "class 1" / ".thumbnails" / "1.png").write_text("not meant")
    message = r"4 files in .*3 \.heic, 1 \.txt\): 3.heic, class 1/1.HEIC, .*, notes.txt"
    with pytest.warns(UserWarning, match=message) as warned:
        images = ImageFolder(tmp_path, "test", test=["class 1"], size=4)
    assert len(warned) == 1 and len(images) == 4


def test_links_are_read_or_named(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    write_images(root, classes=3)
    write_images(elsewhere, classes=1)
    (root / "linked class").symlink_to(elsewhere / "class 0")
    (root / "class 1" / "linked.png").symlink_to(elsewhere / "class 0" / "1.png")
    assert len(ImageFolder(root, "test", test=["class 1", "linked class"], size=4)) == 5 + 4

    (root / "class 1" / "more").symlink_to(elsewhere)
    (root / "class 1" / "circle").symlink_to(root)
    (root / "class 9").symlink_to(tmp_path / "nowhere")
    message = "3 links in .*: class 1/circle, class 1/more, class 9. Put the folder itself there"
    with pytest.warns(UserWarning, match=message):
        assert len(ImageFolder(root, "test", test=["class 1"], size=4)) == 5

    (root / "class 2" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "class 2" / "itself.jpg").symlink_to("itself.jpg")
    message = r"(?s)2 of 6 images.*gone.png cannot be read .* no such file"
    with pytest.warns(UserWarning, match="3 links"), pytest.raises(OSError, match=message):
        ImageFolder(root, "test", test=["class 2"], size=4)


def test_classes_of_one_image_are_named(tmp_path):
    write_images(tmp_path, classes=3)
    for name in ("lynx", "ocelot"):
        write_images(tmp_path / name, classes=1, images=1)
    with pytest.warns(UserWarning, match="2 classes in .* one image only.*: lynx, ocelot. Add"):
        ImageFolder(tmp_path, "test", test=["class 1"], size=4)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_grey_of_any_depth_looks_the_same(depth, tmp_path):
    gradient = np.linspace(0, 1, 100).reshape(10, 10)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        picture = Image.fromarray((gradient * np.iinfo(depth).max).round().astype(depth))
        picture.save(tmp_path / name / "1.png")
        picture.save(tmp_path / name / "2.png")
    for image in ImageFolder(tmp_path, "test", test=["a"], size=10, grey=True).images:
        torch.testing.assert_close(image[0], torch.tensor(gradient).float(), atol=2e-3, rtol=0)


def test_folders_that_may_not_be_read_are_counted_and_named(tmp_path, monkeypatch):
    write_images(tmp_path, classes=3)
    write_images(tmp_path / "class 1" / "more", classes=2)
    closed = {tmp_path / "class 1" / "more" / "class 0", tmp_path / "class 2"}
    # Permissions mean nothing to the administrator, who may be running this.
    monkeypatch.setattr("os.access", lambda path, _: Path(path) not in closed)
    message = "2 folders in .* may not be read: class 1/more/class 0, class 2. Permit it"
    with pytest.raises(PermissionError, match=message):
        ImageFolder(tmp_path, "test", test=["class 1"], size=4)
    closed.add(tmp_path)
    with pytest.raises(PermissionError, match=f"{tmp_path} may not be read"):
        ImageFolder(tmp_path, "test", test=["class 1"], size=4)


def test_images_outside_of_all_classes_are_counted_and_named(tmp_path):
    write_images(tmp_path, classes=3)
    for name in ("x.png", "y.JPG"):
        (tmp_path / name).write_text("in no class")
    with pytest.warns(UserWarning, match="2 images directly in .*: x.png, y.JPG. Put them into"):
        ImageFolder(tmp_path, "test", test=["class 1"], size=4)


def test_folders_of_splits_are_no_classes(tmp_path):
    for name in ("train", "val", "test"):
        write_images(tmp_path / name, classes=4)
    with pytest.raises(ValueError, match=r"no classes but splits \(test, train, val\).*trainval"):
        ImageFolder(tmp_path)
    given = {"split": "trainval", "validation": 0, "test": 0, "size": 4}
    assert len(ImageFolder(tmp_path / "val", **given).class_names) == 4  # As the message says.
    write_images(tmp_path / "bus", classes=1)
    assert len(ImageFolder(tmp_path, **given).class_names) == 4, "train is a vehicle"


def test_folders_of_systems_are_left_out(tmp_path):
    write_images(tmp_path, classes=3)
    systems = ("$RECYCLE.BIN", "System Volume Information", "@eaDir", "__MACOSX")
    for name in systems:
        for place in (tmp_path, tmp_path / "class 1"):
            write_images(place / name, classes=1)
    images = ImageFolder(tmp_path, "trainval", validation=0, test=0, size=4)
    assert images.class_names == ("class 0", "class 1", "class 2") and len(images) == 12


def test_links_to_images_of_other_classes_are_left_out(tmp_path):
    root, elsewhere = tmp_path / "root", write_images(tmp_path / "elsewhere", classes=1)
    write_images(root, classes=3)
    links = {"itself": root, "above": tmp_path, "alias": root / "class 1"}
    for name, target in (links | {"linked": elsewhere, "linked twice": elsewhere}).items():
        (root / name).symlink_to(target)
    message = "4 links in .* left out.*: above, alias, itself, linked twice. Put the folder itself"
    with pytest.warns(UserWarning, match=message):
        images = ImageFolder(root, "trainval", validation=0, test=0, size=4)
    assert images.class_names == ("class 0", "class 1", "class 2", "linked")
    assert len(images) == 16


def test_names_are_compared_as_they_look(tmp_path):
    write_images(tmp_path, classes=2)
    decomposed, composed = "cafe\u0301", "caf\u00e9"
    for i, name in enumerate((decomposed, "7", "caf\udce9")):
        write_images(tmp_path / f"source {i}", classes=1)
        (tmp_path / f"source {i}" / "class 0").rename(tmp_path / name)
        (tmp_path / f"source {i}").rmdir()
    for given in (composed, decomposed):
        assert ImageFolder(tmp_path, "test", test=[given], size=4).class_names == (composed,)
    assert ImageFolder(tmp_path, "test", test=[7], size=4).class_names == ("7",)
    # Bytes that are no UTF-8 can be printed, drawn and named in a settings file.
    assert ImageFolder(tmp_path, "test", test=[r"caf\xe9"], size=4).class_names == (r"caf\xe9",)
    with pytest.raises(ValueError, match="`test` .* got 8: .* Names that are no text need quotes"):
        ImageFolder(tmp_path, "test", test=[8], size=4)
    with pytest.raises(ValueError, match="`test` to be a fraction or a list .* got None"):
        ImageFolder(tmp_path, "test", test=None, size=4)
