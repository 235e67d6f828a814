"""The standard image sets, on miniature trees in the layouts of their archives."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.datasets import (
    CUB,
    Cars196,
    CenterCrop,
    ImageClasses,
    ImageFiles,
    InShop,
    Normalize,
    RandomFlip,
    RandomResizedCrop,
    StanfordOnlineProducts,
)
from benchmarks.datasets.standard_set import Size
from miniature_sets import CLASSES, IMAGES, write_cars, write_cub, write_inshop, write_sop

WRITERS = {
    CUB: write_cub,
    Cars196: write_cars,
    StanfordOnlineProducts: write_sop,
    InShop: write_inshop,
}
MINIATURE = Size(CLASSES * IMAGES, CLASSES)
MINIATURES = {
    CUB: {"train": MINIATURE, "test": MINIATURE},
    Cars196: {"train": MINIATURE, "test": MINIATURE},
    StanfordOnlineProducts: {"train": MINIATURE, "test": MINIATURE},
    InShop: {
        "train": MINIATURE,
        "query": Size(CLASSES, CLASSES),
        "gallery": Size(CLASSES * (IMAGES - 1), CLASSES),
    },
}
each_set = pytest.mark.parametrize("dataset", WRITERS, ids=lambda dataset: dataset.__name__)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return {
        dataset: write(tmp_path_factory.mktemp(dataset.__name__))
        for dataset, write in WRITERS.items()
    }


@pytest.fixture
def whole(monkeypatch):
    """The miniatures count as whole."""
    for dataset, sizes in MINIATURES.items():
        monkeypatch.setattr(dataset, "sizes", sizes)


# ------------------------------------------------------------------------ splits


def test_the_sets_are_as_large_as_published():
    assert CUB.sizes == {"train": (5864, 100), "test": (5924, 100)}
    assert Cars196.sizes == {"train": (8054, 98), "test": (8131, 98)}
    assert StanfordOnlineProducts.sizes == {"train": (59551, 11318), "test": (60502, 11316)}
    assert InShop.sizes == {
        **{"train": (25882, 3997), "query": (14218, 3985), "gallery": (12612, 3985)}
    }


@each_set
def test_classes_are_numbered_from_zero_and_disjoint(dataset, roots, whole):
    train = dataset(roots[dataset], "train")
    assert train.labels.tolist() == [label for label in range(CLASSES) for _ in range(IMAGES)]
    for split in MINIATURES[dataset].keys() - {"train"}:
        test = dataset(roots[dataset], split)
        assert (len(test), len(test.class_names)) == MINIATURES[dataset][split]
        assert test.labels.unique().tolist() == list(range(CLASSES))
        assert not set(train.class_names) & set(test.class_names)


@pytest.mark.parametrize(
    ("dataset", "train", "test"),
    [
        (CUB, "001.Bird_1", "101.Bird_101"),
        (Cars196, "Car 1 C-V", "Car 99 C-V"),
        (StanfordOnlineProducts, "1", "11319"),
        (InShop, "id_00000001", "id_00000007"),
    ],
)
def test_each_picture_is_of_its_class(dataset, train, test, roots, whole):
    for split, first in (("train", train), ("gallery" if dataset is InShop else "test", test)):
        images = dataset(roots[dataset], split)
        assert images.class_names[0] == first
        for path, label in zip(images.images.paths, images.labels.tolist(), strict=True):
            name = images.class_names[label]
            assert f"/{name}/" in path or f"/{name}_" in path


def test_queries_and_gallery_share_their_numbers(roots, whole):
    query, gallery = (InShop(roots[InShop], split) for split in ("query", "gallery"))
    assert query.class_names == gallery.class_names
    assert query.labels.bincount().tolist() == [1] * CLASSES
    assert gallery.labels.bincount().tolist() == [IMAGES - 1] * CLASSES
    assert not set(query.images.paths) & set(gallery.images.paths)


@each_set
def test_folds_of_the_training_classes_validate_in_turn(dataset, roots, whole):
    names = dataset(roots[dataset], "trainval").class_names
    assert len(names) == CLASSES
    seen = []
    for fold in range(3):
        options = {"validation": 1 / 3, "fold": fold}
        train = dataset(roots[dataset], "train", **options)
        val = dataset(roots[dataset], "val", **options)
        assert set(train.class_names) | set(val.class_names) == set(names)
        assert not set(train.class_names) & set(val.class_names)
        assert train.labels.unique().tolist() == list(range(4))
        seen += val.class_names
    assert tuple(seen) == names
    assert dataset(roots[dataset], "val", validation=4).class_names == names[:4]
    assert dataset(roots[dataset], "train").class_names == names, "none by default"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "gallery"}, r"`split` to be one of \('train', 'val', 'trainval', 'test'\)"),
        ({"split": "val"}, "`validation` to leave classes for the split 'val', out of 6"),
        ({"split": "train", "validation": 6}, "leave classes for the split 'train'"),
        ({"validation": -1}, "`validation` to be at least 0, but got -1"),
        ({"validation": 0.5, "fold": 2}, "`fold` .* the 6 training classes, but got 2"),
        ({"validation": 2, "fold": -1}, "`fold` .* but got -1"),
        ({"validation": 0, "fold": -1}, "`fold` .* but got -1"),
    ],
)
def test_wrong_options_are_told(options, message, roots, whole):
    with pytest.raises(ValueError, match=message):
        CUB(roots[CUB], **options)


# ------------------------------------------------------------------- what is missing


@each_set
def test_a_set_that_is_not_there_is_told_with_its_source(dataset, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        dataset(tmp_path / "nowhere")
    assert f"{dataset.__name__} is not in {tmp_path}" in str(caught.value)
    assert f"Get it from {dataset.source}" in str(caught.value)
    with pytest.raises(FileNotFoundError, match=f"{dataset.__name__} is not in"):
        dataset(tmp_path)


@each_set
def test_a_set_of_another_size_is_refused_unless_part_of_it_will_do(dataset, roots):
    expected = dataset.sizes["train"]
    message = (
        f"{expected.images} images of {expected.classes} classes in the part 'train' of "
        f"{dataset.__name__} in .*found {MINIATURE.images} of {MINIATURE.classes}.*partial=True"
    )
    with pytest.raises(FileNotFoundError, match=message):
        dataset(roots[dataset])
    assert len(dataset(roots[dataset], partial=True)) == MINIATURE.images


@each_set
def test_missing_pictures_are_counted_and_one_is_named(dataset, roots, whole, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(roots[dataset], root)
    paths = dataset(root).images.paths
    for path in (paths[0], *paths[-IMAGES:]):
        (root / path).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"4 are listed but missing, such as .*{paths[0][-8:]}"
    ):
        dataset(root)
    part = dataset(root, partial=True)
    assert part.labels.bincount().tolist() == [IMAGES - 1, *[IMAGES] * (CLASSES - 2)]


def test_of_a_part_of_in_shop_garments_need_both_query_and_gallery(roots, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(roots[InShop], root)
    query = InShop(root, "query", partial=True)
    (root / query.images.paths[1]).unlink()
    query, gallery = (InShop(root, split, partial=True) for split in ("query", "gallery"))
    assert query.class_names == gallery.class_names
    assert "id_00000008" not in query.class_names and len(query.class_names) == CLASSES - 1


def test_in_shop_cannot_be_downloaded(roots):
    with pytest.raises(FileNotFoundError, match="`download` to be False, but got True"):
        InShop(roots[InShop], download=True)


def test_pml_downloads_into_an_empty_folder(roots, whole, tmp_path, monkeypatch):
    from pytorch_metric_learning import datasets

    def unpack(pml) -> None:
        shutil.copytree(roots[CUB], pml.root, dirs_exist_ok=True)

    monkeypatch.setattr(datasets.CUB, "download_and_remove", unpack)
    assert len(CUB(tmp_path / "cub", download=True)) == MINIATURE.images


# ------------------------------------------------------------- pictures of all sizes


def picture(width: int, height: int) -> Image.Image:
    """Red grows from left to right, green from top to bottom."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


@each_set
def test_pictures_are_read_when_they_are_needed(dataset, roots, whole):
    images = dataset(roots[dataset], transform=CenterCrop(20, resize=24))
    images = pickle.loads(pickle.dumps(images))
    loader = DataLoader(images, batch_size=5, num_workers=2)
    batches = list(loader)
    assert [batch.shape for batch, _ in batches] == [*[(5, 3, 20, 20)] * 3, (3, 3, 20, 20)]
    assert torch.cat([labels for _, labels in batches]).equal(images.labels)
    assert torch.stack([images[i][0] for i in range(5)]).equal(batches[0][0])
    assert batches[0][0].min() >= 0 and 0.2 < batches[0][0].max() <= 1


def test_grey_and_turned_pictures_are_read_upright_in_colour(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    picture(30, 10).save(tmp_path / "turned.png", exif=exif)
    picture(30, 10).convert("L").save(tmp_path / "grey.png")
    files = ImageFiles([tmp_path / "grey.png", tmp_path / "turned.png"])
    turned, grey = files[torch.tensor([1, 0])]
    assert (turned.mode, grey.mode) == ("RGB", "RGB")
    assert turned.getpixel((0, 0))[0] == 255


def test_an_unreadable_picture_is_named(tmp_path):
    (tmp_path / "x.jpg").write_text("no picture")
    images = ImageClasses(ImageFiles([tmp_path / "x.jpg"]), torch.tensor([0]), ["a"], CenterCrop())
    with pytest.raises(OSError, match="x.jpg cannot be read as an image"):
        images[0]


def test_pictures_of_all_sizes_need_a_transform(roots, whole):
    with pytest.raises(ValueError, match="`transform` to make a batch .*CenterCrop.*got None"):
        CUB(roots[CUB])[0]


@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
def test_the_middle_is_cut_after_resizing_the_shorter_side(shape):
    (image,) = CenterCrop(20, resize=40)([picture(*shape)])
    assert image.shape == (3, 20, 20)
    width, height = shape
    red = (torch.arange(20) + (width - 20) / 2) / (width - 1)
    green = (torch.arange(20) + (height - 20) / 2) / (height - 1)
    torch.testing.assert_close(image[0], red.expand(20, 20), atol=0.01, rtol=0)
    torch.testing.assert_close(image[1], green[:, None].expand(20, 20), atol=0.01, rtol=0)
    (half,) = CenterCrop(20, resize=20)([picture(40, 80)])
    assert half[0, 0, 0] < 0.05 and half[0, 0, -1] > 0.95, "all of the shorter side"
    assert 0.2 < half[1, 0, 0] < 0.3 and 0.7 < half[1, -1, 0] < 0.8


def test_random_crops_fill_their_ranges():
    crop = RandomResizedCrop(8, scale=(0.2, 0.5), ratio=(0.5, 2))
    boxes = torch.tensor([crop._box(100, 100, *draw) for draw in crop.draw(2000, 4).tolist()])
    left, top, right, bottom = boxes.unbind(1)
    assert boxes.min() >= 0 and boxes.max() <= 100
    area, ratio = (right - left) * (bottom - top) / 1e4, (right - left) / (bottom - top)
    assert 0.2 <= area.min() < 0.21 and 0.49 < area.max() <= 0.5 + 1e-6
    assert ratio.min() + 1e-6 >= 0.5 and ratio.max() <= 2 + 1e-5
    assert ratio.log().mean().abs() < 0.05, "wide and tall alike"
    assert left.min() < 1 and right.max() > 99 and top.min() < 1 and bottom.max() > 99


def test_a_crop_that_would_not_fit_is_as_large_as_fits():
    crop = RandomResizedCrop(8, scale=(1, 1), ratio=(2, 2))
    assert crop._box(100, 100, 0.5, 0.5, 0.9, 0.0) == pytest.approx((0, 0, 100, 70.7), abs=0.1)


def test_what_is_cut_is_what_the_box_says():
    crop = RandomResizedCrop(10, scale=(0.25, 0.25), ratio=(1, 1), seed=3)
    box = crop._box(100, 100, *RandomResizedCrop(seed=3).draw(1, 4)[0].tolist())
    (image,) = crop([picture(100, 100)])
    middle = [(box[0] + box[2]) / 200, (box[1] + box[3]) / 200]
    torch.testing.assert_close(image[:2].mean(dim=(1, 2)), torch.tensor(middle), atol=0.02, rtol=0)


@pytest.mark.parametrize("make", [lambda seed: RandomResizedCrop(16, seed=seed), RandomFlip])
def test_random_transforms_are_those_of_their_seed(make):
    if make is RandomFlip:
        images = torch.rand(8, 3, 16, 16)
        first, again, other = (make(seed)(images) for seed in (1, 1, 2))
        one_by_one = make(1)
        single = torch.cat([one_by_one(image[None]) for image in images])
    else:
        pictures = [picture(40, 30)] * 8
        first, again, other = (make(seed)(pictures) for seed in (1, 1, 2))
        one_by_one = make(1)
        single = torch.cat([one_by_one([item]) for item in pictures])
    assert first.equal(again) and first.equal(single)
    assert not first.equal(other)


def test_half_of_the_images_are_mirrored():
    images = torch.rand(400, 3, 4, 4)
    flipped = RandomFlip()(images)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(dim=1)
    assert torch.equal(flipped[~mirrored], images[~mirrored])
    assert 160 < mirrored.sum() < 240


def test_channels_are_normalised():
    images = torch.rand(2, 3, 4, 4)
    red, green, blue = images.unbind(1)
    expected = torch.stack([(red - 1) / 2, (green - 3) / 4, (blue - 5) / 6], dim=1)
    assert Normalize((1, 3, 5), (2, 4, 6))(images).equal(expected)
    assert Normalize().mean == (0.485, 0.456, 0.406) and Normalize().std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: CenterCrop(300, resize=256),
            r"`size` .* `resize` \(256\), but got 300",
        ),
        (lambda: CenterCrop(0), "`size`.*got 0"),
        (lambda: RandomResizedCrop(0), "`size`.*got 0"),
        (lambda: RandomResizedCrop(scale=(0.5, 1.5)), "`scale`.*1.5"),
        (lambda: RandomResizedCrop(scale=(0.5, 0.4)), "`scale`.*0.4"),
        (lambda: RandomResizedCrop(ratio=(0, 1)), "`ratio`.*0"),
    ],
)
def test_wrong_crops_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "transform",
    [
        CenterCrop(10, resize=12),
        RandomResizedCrop(10, (0.2, 0.9), (0.5, 2.0), seed=7),
        RandomFlip(seed=3),
        Normalize((1, 2), (3, 4)),
    ],
)
def test_repr_lists_every_option(transform):
    assert eval(repr(transform)).__dict__.keys() == transform.__dict__.keys()
    assert repr(eval(repr(transform))) == repr(transform)
