"""Omniglot, the datasets' common shape and the transforms (Glyphs has a file of its own)."""

import io
import math
import pickle
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.datasets import ImageClasses, Omniglot, RandomAffine, omniglot
from benchmarks.datasets.file_tree import FileTree
from benchmarks.datasets.transforms import warp_affine
from real_sets import real_set

# ---------------------------------------------------------------- ImageClasses


def numbered_images(count: int = 6, classes: int = 3) -> ImageClasses:
    """Images that hold their own number; images 0, 3, ... are of class 0, and so on."""
    images = torch.arange(float(count)).view(-1, 1, 1, 1).expand(-1, 1, 4, 5)
    names = [f"class {i}" for i in range(classes)]
    return ImageClasses(images, torch.arange(count) % classes, names)


def test_items_are_images_with_their_labels():
    dataset = numbered_images()
    assert len(dataset) == 6
    for index in (4, -2, np.int64(4)):
        image, label = dataset[index]
        assert torch.equal(image, torch.full((1, 4, 5), 4.0))
        assert label == 1 and isinstance(label, int)


def test_iterating_ends_after_the_last_item():
    assert [label for _, label in numbered_images()] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    "indices", [[5, 0, 3], np.array([5, 0, 3]), torch.tensor([5, 0, 3]), [*np.array([5, 0, 3])]]
)
def test_batches_are_fetched_like_items(indices):
    dataset = numbered_images()
    batch = dataset.__getitems__(indices)
    assert [label for _, label in batch] == [2, 0, 0]
    assert torch.equal(torch.stack([image for image, _ in batch]), dataset.images[[5, 0, 3]])


def test_a_data_loader_makes_ordinary_batches():
    dataset = numbered_images()
    batches = list(DataLoader(dataset, batch_size=4))
    assert [len(labels) for _, labels in batches] == [4, 2]
    assert torch.equal(torch.cat([images for images, _ in batches]), dataset.images)
    labels = torch.cat([labels for _, labels in batches])
    assert labels.dtype == torch.int64 and torch.equal(labels, dataset.labels)


def test_a_transform_sees_whole_batches_and_leaves_the_images_alone():
    sizes = []

    def negate(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return images.neg_()

    dataset = numbered_images()
    dataset.transform = negate
    images, _ = next(iter(DataLoader(dataset, batch_size=4)))
    assert sizes == [4]
    assert images[:, 0, 0, 0].tolist() == [0, -1, -2, -3]
    assert dataset[2][0].unique().tolist() == [-2]
    assert dataset.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("images", "labels", "names", "argument"),
    [
        (torch.zeros(2, 4, 4), torch.tensor([0, 1]), "ab", "images"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), "ab", "images"),
        (torch.zeros(2, 1, 4, 4), torch.tensor([0, 1, 1]), "ab", "labels"),
        (torch.zeros(2, 1, 4, 4), torch.tensor([1, 2]), "ab", "labels"),
        (torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]), "abc", "labels"),
    ],
)
def test_images_labels_and_names_must_fit(images, labels, names, argument):
    with pytest.raises(ValueError, match=f"`{argument}`"):
        ImageClasses(images, labels, names)


# ---------------------------------------------------------------- transforms


def test_no_strength_is_the_identity():
    images = torch.rand(5, 1, 28, 20)
    unchanged = RandomAffine(degrees=0, shift=0, scale=0)(images)
    torch.testing.assert_close(unchanged, images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 30), (4, 1, 28, 28)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_are_kept(shape, dtype):
    images = torch.rand(shape, dtype=dtype)
    changed = RandomAffine()(images)
    assert changed.shape == images.shape and changed.dtype == dtype
    assert not torch.allclose(changed, images, atol=1e-2)


def test_the_seed_decides_the_changes():
    images = torch.rand(4, 1, 28, 28)
    first, second, other = RandomAffine(seed=1), RandomAffine(seed=1), RandomAffine(seed=2)
    once = first(images)
    again = first(images)
    assert torch.equal(once, second(images)) and torch.equal(again, second(images))
    assert not torch.equal(once, again)
    assert not torch.equal(once, other(images))


def test_images_of_a_batch_change_each_in_its_own_way():
    changed = RandomAffine()(torch.rand(1, 1, 28, 28).expand(16, -1, -1, -1))
    assert len(changed.flatten(1).unique(dim=0)) == 16


def test_single_images_change_like_a_batch():
    images = torch.rand(20, 1, 28, 28)
    single = RandomAffine(seed=1)
    one_by_one = torch.stack([single(image) for image in images])
    torch.testing.assert_close(RandomAffine(seed=1)(images), one_by_one)


def test_changing_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    RandomAffine()(torch.rand(4, 1, 28, 28, generator=torch.Generator()))
    assert torch.equal(before, torch.get_rng_state())


def test_a_pickled_transform_goes_on_where_it_was():
    transform = RandomAffine(seed=1)
    images = torch.rand(4, 1, 28, 28)
    transform(images)
    restored = pickle.loads(pickle.dumps(transform))
    assert torch.equal(restored(images), transform(images))


def test_what_comes_into_view_is_paper():
    images = torch.full((32, 1, 28, 28), 3.0)
    images[:, :, 14, 14] = -0.32
    changed = RandomAffine(degrees=0, shift=0.5, scale=0)(images)
    assert changed.min() == pytest.approx(-0.32)
    corners = changed[:, 0, ::27, ::27].flatten(1)
    assert corners.amin(dim=1).max() == pytest.approx(-0.32)


def test_draws_fill_their_ranges():
    angles, shifts, sizes = RandomAffine(degrees=10, shift=0.08, scale=0.1)._draw(4000)
    for draws, low, high in (
        (angles.rad2deg(), -10, 10),
        (shifts[:, 0], -0.08, 0.08),
        (shifts[:, 1], -0.08, 0.08),
        (sizes, 0.9, 1.1),
    ):
        margin = 0.01 * (high - low)
        assert low - 1e-5 <= draws.min() < low + margin
        assert high - margin < draws.max() <= high + 1e-5
        assert abs(draws.mean() - (low + high) / 2) < 3 * margin


def warp(image: torch.Tensor, angle=0.0, shift=(0.0, 0.0), size=1.0) -> torch.Tensor:
    warped = warp_affine(
        image[None, None], torch.tensor([angle]), torch.tensor([shift]), torch.tensor([size])
    )
    return warped[0, 0]


def test_angles_turn_clockwise():
    image = torch.rand(7, 7)
    turned = warp(image, angle=math.pi / 2)
    torch.testing.assert_close(turned, image.rot90(-1), atol=1e-5, rtol=0)


def test_shifts_are_fractions_to_the_right_and_down():
    image = torch.zeros(10, 20)
    image[3, 4] = 1
    expected = torch.zeros(10, 20)
    expected[5, 5] = 1
    shifted = warp(image, shift=(1 / 20, 2 / 10))
    torch.testing.assert_close(shifted, expected, atol=1e-5, rtol=0)


def test_sizes_above_one_enlarge():
    image = torch.zeros(16, 16)
    image[6:10, 6:10] = 1
    assert warp(image, size=2.0).sum().item() == pytest.approx(4 * 16, rel=0.1)


def test_shapes_survive_turning_in_an_image_that_is_not_square():
    image = torch.zeros(20, 40)
    image[9:11, 15:25] = 1  # a bar of 10 x 2
    expected = torch.zeros(20, 40)
    expected[5:15, 19:21] = 1
    turned = warp(image, angle=math.pi / 2)
    torch.testing.assert_close(turned, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        *[({"degrees": -1}, "degrees"), ({"shift": -0.1}, "shift"), ({"scale": 1.0}, "scale")],
        ({"padding": "wrap"}, "padding"),
    ],
)
def test_strengths_out_of_range_are_refused(options, argument):
    with pytest.raises(ValueError, match=f"`{argument}`.*{options[argument]}"):
        RandomAffine(**options)


def test_repr_lists_every_option():
    expected = "RandomAffine(degrees=5, shift=0.1, scale=0.2, seed=7, padding='border')"
    assert repr(RandomAffine(5, 0.1, 0.2, seed=7, padding="border")) == expected


@pytest.mark.parametrize(
    ("padding", "expected"),
    [("lowest", [1, 1, 3, 1, 4]), ("border", [3, 3, 3, 1, 4]), ("reflection", [1, 3, 3, 1, 4])],
)
def test_what_comes_into_view_can_be_chosen(padding, expected):
    images = torch.tensor([3.0, 1, 4, 1, 5]).expand(1, 1, 1, -1)
    shift = torch.tensor([[2 / 5, 0.0]])
    shifted = warp_affine(images, torch.zeros(1), shift, torch.ones(1), padding)
    torch.testing.assert_close(shifted.flatten(), torch.tensor(expected).float())


@pytest.mark.parametrize("padding", ["border", "reflection"])
def test_a_white_ground_stays_white(padding):
    images = torch.ones(32, 3, 16, 16)
    images[:, :, 6:10, 6:10] = 0.2
    changed = RandomAffine(padding=padding)(images)
    assert changed[:, :, 0].min() > 0.9999 and changed[:, :, :, -1].min() > 0.9999


def test_neither_workers_nor_epochs_repeat_changes():
    image = torch.rand(1, 1, 12, 12)
    dataset = ImageClasses(image.expand(8, -1, -1, -1), torch.zeros(8, dtype=torch.int64), ["a"])
    dataset.transform = RandomAffine()

    def two_epochs() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        loader = DataLoader(dataset, batch_size=2, num_workers=2, generator=generator)
        return torch.cat([images for _ in range(2) for images, _ in loader])

    images = two_epochs()
    assert len(images.flatten(1).unique(dim=0)) == 16
    assert torch.equal(images, two_epochs())


# ---------------------------------------------------------------- Omniglot, in miniature

# Characters of each alphabet; Greek is in both parts, as in the authors' archives.
SMALL = {
    "images_background_small1": {"Greek": 2, "Korean": 3, "Latin": 1},
    "images_background_small2": {"Greek": 2, "Sanskrit": 2, "Tagalog": 1},
}
FULL = {
    "images_background": {"Greek": 2, "Korean": 1},
    "images_evaluation": {"Tibetan": 2},
}


def drawings(part: str):
    """Names and one-bit pictures of a miniature part, each a random pattern of its own."""
    rng = np.random.default_rng(0)
    for alphabet, characters in (SMALL | FULL)[part].items():
        for character in range(1, characters + 1):
            for writer in range(1, omniglot.DRAWINGS + 1):
                name = f"{part}/{alphabet}/character{character:02}/0001_{writer:02}.png"
                yield name, Image.fromarray(rng.random((105, 105)) < 0.9)


def write_folder(root: Path, part: str) -> None:
    for name, picture in drawings(part):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(root / name)


def write_zip(root: Path, part: str) -> None:
    with ZipFile(root / f"{part}.zip", "w") as archive:
        archive.writestr(f"{part}/", "")
        for name, picture in drawings(part):
            with archive.open(name, "w") as file:
                picture.save(file, format="png")


@pytest.fixture(autouse=True)
def miniature(request, monkeypatch):
    """Let the loader expect the miniature parts, except where a test reads the real ones."""
    if not {"real_root", "real_full_root"} & {*request.fixturenames}:
        monkeypatch.setattr(omniglot, "DRAWINGS", 2)
        for part, alphabets in (SMALL | FULL).items():
            monkeypatch.setitem(omniglot.CHARACTERS, part, sum(alphabets.values()))


@pytest.fixture(params=[write_folder, write_zip])
def small_root(request, tmp_path):
    for part in SMALL:
        request.param(tmp_path, part)
    return tmp_path


def test_test_alphabets_are_those_that_training_does_not_have(small_root):
    train, test = Omniglot(small_root, "train"), Omniglot(small_root, "test")
    assert train.class_names == (
        "Greek/character01", "Greek/character02",
        "Korean/character01", "Korean/character02", "Korean/character03",
        "Latin/character01",
    )  # fmt: skip
    assert test.class_names == (
        "Sanskrit/character01",
        "Sanskrit/character02",
        "Tagalog/character01",
    )
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert test.images.shape == (6, 1, 28, 28)


def test_validation_alphabets_leave_the_training_set(small_root):
    def classes(split, validation=("Korean",)):
        return set(Omniglot(small_root, split, validation).class_names)

    assert {name.split("/")[0] for name in classes("val")} == {"Korean"}
    assert not classes("train") & classes("val")
    assert classes("train") | classes("val") == classes("trainval")
    assert classes("trainval") == classes("train", validation=[])
    assert {name.split("/")[0] for name in classes("val", ["Greek", "Latin"])} == {"Greek", "Latin"}
    assert classes("test") == classes("test", validation=[])


def test_pixels_are_the_ink_of_the_drawings_in_order(small_root):
    train = Omniglot(small_root)
    for index, (_, picture) in enumerate(drawings("images_background_small1")):
        ink = 1 - np.asarray(picture, dtype=np.float64)
        # Pixel (0, 0) covers the first 3.75 rows and columns, in whole rows and columns four.
        expected = (ink[:4, :4].mean() - 0.08) / 0.25
        assert train.images[index, 0, 0, 0].item() == pytest.approx(expected, abs=1e-5)
        assert train.images[index].mean().item() == pytest.approx(
            (ink.mean() - 0.08) / 0.25, abs=0.1
        )


def test_folders_and_archives_read_the_same(tmp_path):
    roots = tmp_path / "folders", tmp_path / "archives"
    for root, write in zip(roots, (write_folder, write_zip), strict=True):
        root.mkdir()
        for part in SMALL:
            write(root, part)
    for split in ("train", "test"):
        folder, archive = (Omniglot(root, split) for root in roots)
        assert torch.equal(folder.images, archive.images)
        assert torch.equal(folder.labels, archive.labels)
        assert folder.class_names == archive.class_names


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_the_full_set_is_recognised(write, tmp_path):
    for part in FULL:
        write(tmp_path, part)
    assert Omniglot(str(tmp_path)).class_names == (
        "Greek/character01", "Greek/character02", "Korean/character01",
    )  # fmt: skip
    assert Omniglot(tmp_path, "test").class_names == ("Tibetan/character01", "Tibetan/character02")


def test_where_both_subsets_are_one_must_be_named(tmp_path):
    for part in SMALL | FULL:
        write_zip(tmp_path, part)
    with pytest.raises(ValueError, match="`subset`.*'small', 'full'"):
        Omniglot(tmp_path)
    assert len(Omniglot(tmp_path, "test", subset="small").class_names) == 3
    assert len(Omniglot(tmp_path, "test", subset="full").class_names) == 2
    with pytest.raises(ValueError, match="`subset`.*'tiny'"):
        Omniglot(tmp_path, subset="tiny")


def test_a_transform_is_applied_to_what_is_fetched(small_root):
    dataset = Omniglot(small_root, transform=torch.zeros_like)
    assert dataset[0][0].unique().tolist() == [0]


def test_a_missing_root_says_what_is_looked_for_and_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        Omniglot(tmp_path / "nowhere")
    message = str(error.value)
    assert str(tmp_path / "nowhere") in message
    assert all(part in message for part in SMALL | FULL)
    assert "github.com/brendenlake/omniglot" in message


def test_a_missing_part_is_named_alone(tmp_path):
    write_zip(tmp_path, "images_background_small1")
    with pytest.raises(FileNotFoundError, match="missing: images_background_small2 "):
        Omniglot(tmp_path)
    with pytest.raises(FileNotFoundError, match="missing: images_background, images_evaluation "):
        Omniglot(tmp_path, subset="full")


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("lost", ["Sanskrit/character01", "Sanskrit/character01/0001_01.png"])
def test_an_incomplete_part_is_refused(split, lost, tmp_path):
    for part in SMALL:
        write_folder(tmp_path, part)
    (tmp_path / "images_background_small2" / lost).rename(tmp_path / "lost")
    with pytest.raises(FileNotFoundError, match="Expected 5 characters with 2 .* found 4.*github"):
        Omniglot(tmp_path, split)


def test_a_damaged_archive_is_refused(tmp_path):
    for part in SMALL:
        write_zip(tmp_path, part)
    path = tmp_path / "images_background_small2.zip"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FileNotFoundError, match="small2.zip but it is damaged"):
        Omniglot(tmp_path)


def encoded(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"it is empty \(0 bytes\)"),
        (b"no picture", "Pillow does not know its format"),
        (encoded(Image.effect_noise((105, 105), 50))[:3000], "truncated"),
        (encoded(Image.new("1", (50, 105))), "expected a drawing of 105 x 105 .* got 50 x 105"),
        (encoded(Image.new("1", (300, 300))), "too many pixels"),
    ],
    ids=["empty", "text", "cut", "small", "bomb"],
)
def test_bad_drawings_are_named(archive, content, message, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    part = "images_background_small1"
    for name in SMALL:
        write_folder(tmp_path, name)
    file = f"{part}/Korean/character02/0001_02.png"
    (tmp_path / file).write_bytes(content)
    if archive:
        with ZipFile(tmp_path / f"{part}.zip", "w") as packed:
            for path in sorted((tmp_path / part).rglob("*.png")):
                packed.write(path, path.relative_to(tmp_path).as_posix())
        (tmp_path / part).rename(tmp_path / "unpacked")
        file = f"{part}.zip/{file}"
    with pytest.raises(OSError, match=f"{file}.*{message}.*Get it again from https://github"):
        Omniglot(tmp_path)


def test_drawings_in_colour_or_grey_are_read_as_ink(tmp_path):
    for name in SMALL:
        write_folder(tmp_path, name)
    one_bit = Omniglot(tmp_path).images
    for i, path in enumerate(sorted((tmp_path / "images_background_small1").rglob("*.png"))):
        Image.open(path).convert(["L", "RGB", "RGBA", "P"][i % 4]).save(path)
    torch.testing.assert_close(Omniglot(tmp_path).images, one_bit)


def test_drawings_are_read_once(small_root, monkeypatch):
    train = Omniglot(small_root)
    monkeypatch.setattr(FileTree, "read", None)
    assert torch.equal(Omniglot(small_root).images, train.images)
    val = Omniglot(small_root, "val", validation=["Korean"])
    rows = [name.startswith("Korean") for name in train.class_names]
    korean = train.images.unflatten(0, (-1, omniglot.DRAWINGS))[rows].flatten(0, 1)
    assert torch.equal(val.images, korean)


def test_a_drawing_that_changed_is_read_again(tmp_path):
    for name in SMALL:
        write_folder(tmp_path, name)
    before = Omniglot(tmp_path).images
    path = tmp_path / "images_background_small1" / "Greek" / "character01" / "0001_01.png"
    Image.new("1", (105, 105)).save(path)
    after = Omniglot(tmp_path).images
    assert after[0].unique().numel() == 1
    assert torch.equal(before[1:], after[1:])


@pytest.mark.parametrize("validation", [["Klingon"], ["Korean", "Sanskrit"], "Korean"])
def test_validation_must_list_training_alphabets(validation, small_root):
    with pytest.raises(ValueError, match=r"`validation`.*\['Greek', 'Korean', 'Latin'\]"):
        Omniglot(small_root, validation=validation)


@pytest.mark.parametrize(
    ("split", "validation"), [("val", []), ("train", ["Greek", "Korean", "Latin"])]
)
def test_a_split_without_characters_is_refused(split, validation, small_root):
    with pytest.raises(ValueError, match=f"`validation`.*'{split}'"):
        Omniglot(small_root, split, validation)


def test_an_unknown_split_is_refused(small_root):
    with pytest.raises(ValueError, match="`split`.*'valid'"):
        Omniglot(small_root, "valid")


# ---------------------------------------------------------------- Omniglot, the real archives


@pytest.fixture(scope="module")
def real_root() -> Path:
    return real_set("OMNIGLOT_ROOT", "omniglot", " and ".join(SMALL), SMALL)


@pytest.fixture(scope="module")
def real_full_root() -> Path:
    return real_set("OMNIGLOT_FULL_ROOT", "omniglot_full", " and ".join(FULL), FULL)


def test_the_full_subset_has_964_training_and_659_test_characters(real_full_root):
    train, test = (Omniglot(real_full_root, split, subset="full") for split in ("train", "test"))
    alphabets = []
    for dataset, characters in ((train, 964), (test, 659)):
        assert len(dataset.class_names) == characters
        assert dataset.labels.bincount().tolist() == [20] * characters
        alphabets.append({name.split("/")[0] for name in dataset.class_names})
    assert [len(names) for names in alphabets] == [30, 20]
    assert not alphabets[0] & alphabets[1]


def test_both_subsets_have_the_same_drawings(real_root, real_full_root):
    small, full = Omniglot(real_root, subset="small"), Omniglot(real_full_root, subset="full")
    rows = [full.class_names.index(name) for name in small.class_names]
    drawings = full.images.unflatten(0, (-1, 20))[rows].flatten(0, 1)
    assert torch.equal(drawings, small.images)


def test_the_small_subset_has_136_training_and_106_test_characters(real_root):
    train, test = (Omniglot(real_root, split, subset="small") for split in ("train", "test"))
    for dataset, characters in ((train, 136), (test, 106)):
        assert len(dataset.class_names) == characters
        assert dataset.labels.bincount().tolist() == [20] * characters
        assert abs(dataset.images.mean()) < 0.1
        assert 0.8 < dataset.images.std() < 1.1
        assert dataset.images.min() == pytest.approx(-0.32)
        assert dataset.images.max() == pytest.approx(3.68)
    alphabets = [{name.split("/")[0] for name in d.class_names} for d in (train, test)]
    assert alphabets == [
        {"Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"},
        {"Japanese_(katakana)", "Sanskrit", "Tagalog"},
    ]


@pytest.mark.parametrize(
    ("validation", "characters"), [(["Korean"], 40), (["Greek", "Early_Aramaic"], 46)]
)
def test_the_validation_folds_of_the_small_subset(validation, characters, real_root):
    train, val = (
        Omniglot(real_root, split, validation, subset="small") for split in ("train", "val")
    )
    assert len(val.class_names) == characters
    assert len(train.class_names) == 136 - characters
    assert not {*train.class_names} & {*val.class_names}
