"""A trained network, loaded with its own preprocessing."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pytorch_metric_learning.utils.inference import InferenceModel

import benchmarks
from benchmarks.datasets import ImageFolder
from benchmarks.errors import SettingsError
from benchmarks.models.pretrained import TorchvisionTrunk, without_weights
from benchmarks.results import paths
from benchmarks.settings.described import load_splits
from benchmarks.trained import load_model
from benchmarks.trained.loading import preprocessing, read_run
from benchmarks.training.assembly import Parts
from trained_run import finished_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return finished_run(tmp_path_factory.mktemp("loading"))


@pytest.fixture
def copied(run, tmp_path) -> Path:
    return shutil.copytree(run, tmp_path / "plain" / "seed_0")


def photos_of(run: Path) -> list[Path]:
    return sorted((run.parents[3] / "photos").glob("*/*.png"))


def as_tested(run: Path) -> tuple[torch.Tensor, ImageFolder]:
    """Return what the test embedded, by the parts of the runner, and the images as they are."""
    settings = read_run(run)
    parts = Parts(settings, load_splits(settings.data))
    for name, weights in torch.load(run / "best.pt", weights_only=True).items():
        (parts.models | parts.losses)[name].load_state_dict(weights)
    images = torch.stack([image for image, _ in parts.test])
    with torch.no_grad():
        for model in parts.models.values():
            images = model.eval()(images)
    return torch.nn.functional.normalize(images), load_splits(settings.data).test


def test_pictures_are_embedded_as_in_the_test(run):
    expected, test = as_tested(run)
    model = benchmarks.load_model(run)
    files = [path for path in photos_of(run) if path.parent.name in test.class_names]
    torch.testing.assert_close(model(files), expected)
    torch.testing.assert_close(model([str(path) for path in files]), expected)
    torch.testing.assert_close(model([Image.open(path) for path in files]), expected)
    torch.testing.assert_close(model(test.images), expected)
    assert model.shape == (3, 12, 12)
    as_bytes = (255 * test.images).round().byte()
    torch.testing.assert_close(model(as_bytes), expected)
    assert not model.training and not model(test.images).requires_grad


def test_a_single_picture_has_one_embedding(run):
    model, path = load_model(str(run)), photos_of(run)[0]
    expected = model(photos_of(run)[:1])
    assert expected.shape == (1, 5)
    torch.testing.assert_close(expected.norm(dim=1), torch.ones(1))
    for given in (path, str(path), Image.open(path)):
        assert torch.equal(model(given), expected)


def test_long_lists_are_embedded_in_parts(run, monkeypatch):
    model, files = load_model(run), photos_of(run)
    expected = model(files)
    monkeypatch.setattr("benchmarks.trained.network.BATCH", 7)
    torch.testing.assert_close(model(files), expected)
    torch.testing.assert_close(model(model.images(files)), expected)


def test_pictures_are_read_upright_and_on_white(run, tmp_path):
    model = load_model(run)
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (30, 20, 3)).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "turned.png", exif=exif)
    torch.testing.assert_close(model(tmp_path / "turned.png"), model(picture))
    torch.testing.assert_close(model(Image.open(tmp_path / "turned.png")), model(picture))
    clear, white = Image.new("RGBA", (20, 20), (0, 0, 0, 0)), Image.new("RGB", (20, 20), "white")
    torch.testing.assert_close(model(clear), model(white))


def test_pmls_inference_model_takes_it_as_its_trunk(run):
    model, files = load_model(run), photos_of(run)
    inference = InferenceModel(model, data_device="cpu")
    inference.train_knn(files)
    distances, indices = inference.get_nearest_neighbors(files[:3], k=1)
    assert indices.flatten().tolist() == [0, 1, 2]
    torch.testing.assert_close(inference.get_embeddings(files[:3]), model(files[:3]))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([], ValueError, "at least one picture"),
        ([3], TypeError, "picture of Pillow or the path of a file but got int"),
        (torch.zeros(2, 3, 9, 9), ValueError, r"\[B, 3, 12, 12\].* but got \[2, 3, 9, 9\]"),
        (torch.zeros(3, 12, 12), ValueError, r"but got \[3, 12, 12\]"),
        (torch.zeros(0, 3, 12, 12), ValueError, "B of at least 1"),
        (torch.zeros(2, 3, 12, 12, dtype=torch.int64), TypeError, "uint8, or as floats"),
        ("nowhere.png", OSError, "nowhere.png cannot be read"),
    ],
)
def test_what_is_no_picture_is_refused(given, error, message, run):
    with pytest.raises(error, match=message):
        load_model(run)(given)


# ---------------------------------------------------------------- folders


def test_a_folder_that_is_no_run_is_told_with_one_that_is(run, tmp_path):
    with pytest.raises(SettingsError, match="no such folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match=r"settings.yaml is missing.*<variant>"):
        load_model(tmp_path)
    for above in (run.parent, run.parents[1]):
        with pytest.raises(SettingsError, match=f"such as {run}"):
            load_model(above)


@pytest.mark.parametrize("file", ["metrics.csv", "best.pt"])
def test_an_unfinished_run_is_refused(file, copied):
    (copied / file).unlink()
    with pytest.raises(SettingsError, match="is not finished. The command that started it"):
        load_model(copied)


def test_a_device_that_is_not_there_is_told(run):
    with pytest.raises(SettingsError, match="device: 'cuda:99' cannot be used"):
        load_model(run, device="cuda:99")


@pytest.mark.parametrize("damage", ["empty", "cut off", "other models", "no trunk"])
def test_damaged_weights_are_named(damage, copied):
    path = copied / "best.pt"
    weights = torch.load(path, weights_only=True)
    if damage == "other models":
        weights["trunk"] = {"weight": torch.zeros(3)}
    del weights["trunk" if damage == "no trunk" else "metric_loss"]
    torch.save(weights, path)
    if damage in ("empty", "cut off"):
        path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else 900])
    with pytest.raises(SettingsError, match=rf"{path} is damaged .*Delete the folder"):
        load_model(copied)


def test_weights_that_hold_code_are_refused(copied):
    torch.save({"trunk": SimpleNamespace()}, copied / "best.pt")
    with pytest.raises(SettingsError, match="best.pt is damaged or not of this runner"):
        load_model(copied)


def test_settings_that_name_code_need_permission(copied):
    path = copied / paths.SETTINGS
    tree = yaml.safe_load(path.read_text())
    tree["transforms"]["eval"] = [{"few_glyphs.Scaled": {"by": 3}}]
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(SettingsError, match="few_glyphs.*--import few_glyphs"):
        load_model(copied)
    assert load_model(copied, imports=["few_glyphs"]).shape == (3, 12, 12)


# ---------------------------------------------------------------- preprocessing


def described(dataset: dict, transforms: list) -> SimpleNamespace:
    """Settings with a dataset and transforms."""
    data = SimpleNamespace(train=dataset, val=None, test=None)
    return SimpleNamespace(data=data, transforms=SimpleNamespace(eval=transforms))


@pytest.mark.parametrize(
    ("dataset", "transforms", "shape"),
    [
        ({"ImageFolder": {"root": "x", "size": 9, "grey": True}}, [], (1, 9, 9)),
        ({"ImageFolder": {"root": "x"}}, [{"Normalize": {}}], (3, 64, 64)),
        ({"GroceryStore": {"root": "x", "size": 7}}, [], (3, 7, 7)),
        ({"Emoji": {"root": "x"}}, [], (3, 32, 32)),
        ({"Glyphs": None}, [], (1, 28, 28)),
        ({"Omniglot": {"root": "x"}}, [], (1, 28, 28)),
        ({"FontGlyphs": {"root": "x"}}, [], (1, 28, 28)),
        ({"CUB": {}}, [{"CenterCrop": {"size": 20, "resize": 22}}, {"Normalize": {}}], (3, 20, 20)),
        ({"few_glyphs.patterns": {}}, [{"CenterCrop": {"size": 20}}], (3, 20, 20)),
    ],
)
def test_every_dataset_says_how_it_reads_pictures(dataset, transforms, shape):
    prepare, others = preprocessing(described(dataset, transforms))
    images = prepare([Image.new("RGB", (50, 40), "white")] * 2)
    assert images.shape == (2, *shape) and images.min() >= 0.99 and images.max() <= 1.01
    for transform in others:
        images = transform(images)
    assert images.shape == (2, *shape)


def test_ink_is_high_where_the_dataset_has_it_high():
    paper = [Image.new("L", (105, 105), 255)]
    for name, value in (("Glyphs", 0), ("FontGlyphs", 0), ("Omniglot", -0.08 / 0.25)):
        prepare, others = preprocessing(described({name: {"root": "x"}}, []))
        images = prepare(paper)
        for transform in others:
            images = transform(images)
        assert images.flatten().tolist() == pytest.approx([value] * 28 * 28, abs=1e-6)


def test_a_transform_of_the_dataset_comes_first():
    dataset = {"ImageFolder": {"size": 3, "transform": {"Inverted": {}}}}
    _, others = preprocessing(described(dataset, [{"Normalize": {}}]))
    assert [type(transform).__name__ for transform in others] == ["Inverted", "Normalize"]


def test_where_nobody_knows_how_pictures_are_read_tensors_are_embedded(copied):
    path = copied / paths.SETTINGS
    tree = yaml.safe_load(path.read_text())
    tree["data"]["test"] = {"few_glyphs.patterns": {"split": "test"}}
    path.write_text(yaml.safe_dump(tree))
    model = load_model(copied, imports=["few_glyphs"])
    assert model.shape is None and model(torch.rand(2, 3, 9, 7)).shape == (2, 5)
    with pytest.raises(ValueError, match="does not say how it reads pictures"):
        model("photo.png")


def test_nothing_is_downloaded_and_what_weights_change_stays_changed(monkeypatch):
    called = {}

    def get_model(name, **options):
        called.update(options, name=name)
        return SimpleNamespaceModule()

    class SimpleNamespaceModule(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(2, 2)

    monkeypatch.setitem(sys.modules, "torchvision.models", SimpleNamespace(get_model=get_model))
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace())
    settings = without_weights({"TorchvisionTrunk": {"name": "googlenet", "dropout": 0}})
    TorchvisionTrunk(**settings["TorchvisionTrunk"])
    assert called == {
        **{"name": "googlenet", "weights": None, "dropout": 0, "init_weights": False},
        **{"transform_input": True, "aux_logits": False},
    }
    random = {"TorchvisionTrunk": {"name": "googlenet", "weights": None}}
    assert without_weights(random) == random
    assert without_weights({"ConvTrunk": None}) == {"ConvTrunk": None}
