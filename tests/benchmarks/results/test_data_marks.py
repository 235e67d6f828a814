"""Runs of other data neither go on nor land in one table."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import __main__ as command_line
from benchmarks.datasets import ImageClasses, ImageFiles
from benchmarks.datasets.splits import Splits
from benchmarks.errors import SettingsError
from benchmarks.results.paths import run_folder
from benchmarks.settings.reading import load
from benchmarks.training.run import execute
from few_glyphs import patterns

SETTINGS = """
data:
  root: ROOT
  train: {ImageFolder: &set {root: "${data.root}", size: 8, validation: [v], test: [t]}}
  val: {ImageFolder: {<<: *set, split: val}}
  test: {ImageFolder: {<<: *set, split: test}}
model:
  trunk: {ConvTrunk: {in_channels: 3, widths: [4]}}
  embedder: {LinearEmbedder: {in_features: 4}}
sampler: {RandomSampler: {}}
batch_size: 8
epochs: 2
iterations_per_epoch: 1
optimizers: {trunk: &adam {AdamW: {}}, embedder: *adam, metric_loss: *adam}
seeds: [0]
parallel_runs: 1
variants:
  plain: {loss: {ProxyNCALoss: {}}}
  other: {loss: {ProxyNCALoss: {softmax_scale: 10}}}
"""


def write_images(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c", "t", "v"):
        (root / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(256, size=(8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> Path:
    """The folder with a settings file, its images and one of its two variants."""
    folder = tmp_path_factory.mktemp("compared")
    root = write_images(folder / "images")
    (folder / "mine.yaml").write_text(SETTINGS.replace("ROOT", str(root)))
    run(folder, "run", "--variant", "plain")
    return folder


def run(folder: Path, command: str, *options: str) -> None:
    command_line.main([command, str(folder / "mine.yaml"), *options, f"results={folder / 'runs'}"])


@pytest.fixture
def mine(compared, tmp_path) -> Path:
    """A copy of it: everything has moved."""
    folder = shutil.copytree(compared, tmp_path / "moved")
    (folder / "mine.yaml").write_text(SETTINGS.replace("ROOT", str(folder / "images")))
    return folder


def rename(images: Path) -> None:
    (images / "b").rename(images / "b2")


def redraw(images: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(images / "t" / "1.png")


def move_between_classes(images: Path) -> None:
    (images / "a" / "1.png").rename(images / "b" / "9.png")


def add_class(images: Path) -> None:
    shutil.copytree(images / "t", images / "d")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (rename, "train: the classes have other names now"),
        (redraw, "test: as many images of the same classes, but others now"),
        (move_between_classes, "train: the classes have other numbers of images now"),
        (add_class, "train: 3 classes, 12 images there, 4 classes, 16 images now"),
    ],
)
def test_other_data_joins_no_comparison(change, told, mine):
    change(mine / "images")
    expected = rf"mine holds runs with other data, of plain:\n  {told}[^\n]*\n.*another name"
    shared = ["data.allow_overlap=true"]
    for command in (
        *(["compare"], ["compare", "--dry-run"], ["compare", "seeds=[0,1]"]),
        ["run", "--variant", "other"],
    ):
        with pytest.raises(SystemExit, match=expected):
            run(mine, *command, *shared)
    assert not (mine / "runs" / "mine" / "other").exists()


def test_data_may_move_and_runs_without_a_mark_go_on(mine):
    run(mine, "run", "--variant", "other")
    (mine / "runs" / "mine" / "plain" / "seed_0" / "data.yaml").unlink()
    shutil.rmtree(mine / "runs" / "mine" / "other")
    rename(mine / "images")
    run(mine, "compare")
    assert len(list(mine.rglob("data.yaml"))) == 1


def test_a_run_that_left_nothing_binds_nobody(mine):
    (mine / "runs" / "mine" / "plain" / "seed_0" / "metrics.csv").unlink()
    rename(mine / "images")
    run(mine, "compare")
    assert len(list(mine.rglob("metrics.csv"))) == 2


def test_a_stopped_run_goes_on_with_its_data_alone(mine):
    comparison = load(mine / "mine.yaml")
    folder = run_folder(mine / "stopped", comparison.runs[0])
    splits = Splits(patterns("train"), patterns("val"), patterns("test"))
    run_of_patterns = comparison.runs[0]
    run_of_patterns.model.trunk = {"ConvTrunk": {"widths": [4]}}

    class Stop(Exception):
        pass

    def stop(epoch: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        execute(run_of_patterns, splits, folder, stop)
    labels = splits.train.labels.flip(0)
    train = ImageClasses(splits.train.images, labels, splits.train.class_names)
    with pytest.raises(SettingsError, match="holds a run with other data:\n  train: the classes"):
        execute(run_of_patterns, Splits(train, splits.val, splits.test), folder)
    execute(run_of_patterns, splits, folder)


@pytest.mark.parametrize("content", ["", "[1]", "train: 3", "train: {classes: 3}", "{["])
def test_a_damaged_mark_is_named(content, mine):
    path = mine / "runs" / "mine" / "plain" / "seed_0" / "data.yaml"
    path.write_text(content)
    with pytest.raises(SystemExit, match=r"data.yaml is damaged .* Delete it if the data did not"):
        run(mine, "compare")


def test_files_are_told_apart_by_name_and_size(tmp_path):
    def mark(folder: Path) -> dict[str, int | str]:
        files = ImageFiles(sorted((folder / "a").iterdir()))
        return ImageClasses(files, torch.zeros(len(files), dtype=torch.int64), ["a"]).mark

    one, other = write_images(tmp_path / "one"), write_images(tmp_path / "other")
    assert mark(one) == mark(other)
    Image.new("RGB", (9, 9)).save(other / "a" / "1.png")
    assert mark(one) != mark(other)
